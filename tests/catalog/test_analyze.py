"""A run on an output that holds an earlier one: resumed, added to, refused; and verified. Without Ray."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_app import cli, storage
from ray_app.catalog import analyze, pipeline
from ray_app.engine.device import Device, choose_device
from ray_app.errors import UserError
from ray_app.inference.own_thread import OwnThread
from tests.support.catalog_run import TEXTS, config, rows, verified, write
from tests.support.deaths import dying_at_commit
from tests.support.paths import ROOT


def dying(reviews: Path, bundle: str, monkeypatch: pytest.MonkeyPatch, commit: int, after: bool) -> None:
    """A run whose process dies at commit number `commit`, just before or just after it creates the marker."""
    with dying_at_commit(monkeypatch, commit, after):
        analyze.run(config(reviews, bundle))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commit", [1, 3, 7])
def test_a_run_that_died_is_resumed_and_equals_an_undisturbed_one(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch, commit: int, after: bool
) -> None:
    dying(reviews, bundle_folder, monkeypatch, commit, after)
    assert analyze.run(config(reviews, bundle_folder)) == 0
    disturbed, run = rows(reviews), storage.read_json(f"{reviews.parent}/out/_run.json")
    assert (run["rows_in"], run["analysed"], run["rejected"]) == (50, 50, 0)
    assert run["rows_of_this_run"] < 50 or (commit == 1 and not after)
    assert verified(reviews) == 0
    analyze.run(config(reviews, bundle_folder, output=str(reviews.parent / "calm" / "out")))
    calm = storage.read_parquet(f"{reviews.parent}/calm/out/data").to_pylist()
    assert disturbed == sorted(calm, key=lambda row: int(row["review_id"]))


def test_a_run_that_is_resumed_on_another_device_says_so(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dying(reviews, bundle_folder, monkeypatch, 3, after=True)
    cpu = choose_device("cpu").arithmetic
    monkeypatch.setattr(Device, "arithmetic", "a GPU, products in bf16")
    assert analyze.run(config(reviews, bundle_folder)) == 0
    said = f"may differ a little between units: 3 units on {cpu}; 4 units on a GPU, products in bf16\n"
    assert said in capsys.readouterr().out


def test_a_finished_run_is_left_as_it_is(reviews: Path, bundle_folder: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ray_app")
    analyze.run(config(reviews, bundle_folder))
    before = storage.read_bytes(f"{reviews.parent}/out/_run.json")
    assert analyze.run(config(reviews, bundle_folder)) == 0
    assert "50 rows were committed before; 0 units are left" in caplog.text
    assert storage.read_bytes(f"{reviews.parent}/out/_run.json") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"words": "kiwi"}, "--words 'space', now it is 'kiwi'"),
        ({"highlights": "exact"}, "--highlights 'off', now it is 'exact'"),
        ({"unit_rows": 9}, "--unit-rows 8, now it is 9"),
        ({"thresholds": '{"배송": 0.125}'}, "--thresholds '', now it is '배송=0.125'"),
        ({"keep": ""}, "--keep 'mall', now it is ''"),
        ({"limit": 9}, "--limit 0, now it is 9"),
    ],
)
def test_another_config_is_refused_with_the_key(
    reviews: Path, bundle_folder: str, changes: dict[str, Any], words: str
) -> None:
    analyze.run(config(reviews, bundle_folder))
    with pytest.raises(UserError, match=words):
        analyze.run(config(reviews, bundle_folder, **changes))


def test_another_bundle_is_refused_with_the_key(reviews: Path, bundle_folder: str, tmp_path: Path) -> None:
    from tests.support.bundles import make_bundle

    analyze.run(config(reviews, bundle_folder))
    make_bundle(tmp_path / "other", max_length=48)
    with pytest.raises(UserError, match=r"was begun with --bundle '[0-9a-f]{12}', now it is "):
        analyze.run(config(reviews, str(tmp_path / "other")))


def test_no_resume_refuses_an_output_that_holds_a_run(reviews: Path, bundle_folder: str) -> None:
    analyze.run(config(reviews, bundle_folder))
    with pytest.raises(UserError, match="holds a run; drop --no-resume"):
        analyze.run(config(reviews, bundle_folder, resume=False))


def test_changed_input_is_refused_with_the_file(reviews: Path, bundle_folder: str) -> None:
    analyze.run(config(reviews, bundle_folder))
    write(reviews / "b.parquet", 30, 49)
    with pytest.raises(UserError, match=r"b\.parquet: changed since the run was planned"):
        analyze.run(config(reviews, bundle_folder))


def test_input_that_is_gone_is_refused_where_work_is_left(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(reviews, bundle_folder, monkeypatch, 5, after=True)  # a.parquet has four units
    (reviews / "a.parquet").rename(reviews.parent / "a")
    assert analyze.run(config(reviews, bundle_folder)) == 0
    assert len(rows(reviews)) == 50


def test_incremental_analyzes_new_files_only(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert analyze.run(config(reviews, bundle_folder, incremental=True)) == 0  # the first night
    write(reviews / "c.parquet", 50, 60)
    assert analyze.run(config(reviews, bundle_folder)) == 0
    assert len(rows(reviews)) == 50
    assert analyze.run(config(reviews, bundle_folder, incremental=True)) == 0
    assert [row["review_id"] for row in rows(reviews)] == [str(i) for i in range(60)]
    assert storage.read_json(f"{reviews.parent}/out/_run.json")["rows_of_this_run"] == 10
    assert verified(reviews) == 0
    assert analyze.run(config(reviews, bundle_folder, incremental=True)) == 0
    assert len(rows(reviews)) == 60


def test_partitions_are_folders_that_readers_know(reviews: Path, bundle_folder: str) -> None:
    analyze.run(config(reviews, bundle_folder, partition_by="mall"))
    table = pads.dataset(str(reviews.parent / "out" / "data"), partitioning="hive").to_table()
    malls = dict(zip(table["review_id"].to_pylist(), table["mall"].to_pylist(), strict=True))
    assert malls == {str(i): "가" if i % 3 else "나" for i in range(50)}
    assert verified(reviews) == 0


def test_unreadable_files_are_rejects_and_the_job_continues(
    reviews: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (reviews / "c.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"id": [1], "name": ["굿"], "mall": ["가"]}), reviews / "d.parquet")
    for _ in range(2):  # a second time there is nothing to do, and it says the same
        assert analyze.run(config(reviews, bundle_folder)) == analyze.REJECTS_EXIT
    rejected = storage.read_parquet(f"{reviews.parent}/out/rejected").to_pylist()
    reasons = {Path(row["file"]).name: row["reason"] for row in rejected}
    assert reasons["c.parquet"].startswith("unreadable Parquet file: ")
    assert reasons["d.parquet"] == "no text column among id, name, mall"
    assert len(rejected) == 2
    assert "d.parquet: no text column among id, name, mall" in capsys.readouterr().out


@pytest.mark.parametrize("allowed", ["2", "4%"])
def test_too_many_rejects_stop_the_job_and_a_higher_limit_resumes_it(
    reviews: Path, bundle_folder: str, allowed: str
) -> None:
    pq.write_table(pa.table({"id": [91, 92, 93], "text": ["", " ", None], "mall": ["가"] * 3}), reviews / "c.parquet")
    with pytest.raises(
        UserError, match=rf"--max-rejected {allowed}: 3 of 53 .* raise it and run the same command again"
    ):
        analyze.run(config(reviews, bundle_folder, max_rejected=allowed))
    assert analyze.run(config(reviews, bundle_folder, max_rejected="3")) == 0
    assert len(rows(reviews)) == 50


@pytest.mark.parametrize("words", ["many", "-1", "x%", ""])
def test_max_rejected_that_is_no_number_is_refused(words: str) -> None:
    with pytest.raises(UserError, match=f"--max-rejected {words}: write 1% or a number"):
        analyze.Config(max_rejected=words)


def test_a_row_the_model_raises_on_is_rejected_with_its_place(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = pipeline.Lane.run_stages

    def raising(self: Any, table: pa.Table) -> pa.Table:
        if TEXTS[41] in table["text"].to_pylist():
            raise ValueError("a token too many")
        return stages(self, table)

    monkeypatch.setattr(pipeline.Lane, "run_stages", raising)
    assert analyze.run(config(reviews, bundle_folder)) == 0
    [reject] = storage.read_parquet(f"{reviews.parent}/out/rejected").to_pylist()
    assert (reject["review_id"], reject["value"], reject["row"]) == ("41", TEXTS[41], 11)
    assert reject["reason"] == "the model fails on it: a token too many"
    assert [row["review_id"] for row in rows(reviews)] == [str(i) for i in range(50) if i != 41]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_unit_in_flight_finish_and_says_how_to_resume(
    bundle_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
    code: int,
) -> None:
    given = {"bundle": bundle_folder, "output": f"{tmp_path}/out", "placement": "here", "device": "cpu"}
    given |= {"unit_rows": "20", "limit": "200"}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "jobs.analyze", *flags]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while job.poll() is None and not list(tmp_path.glob("out/_units/*.json")):
        time.sleep(0.02)
    job.send_signal(number)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == code, output
    assert "finishing the units in flight" in output
    assert "rows are left; run the same command again to resume" in output
    committed = {path.stem for path in tmp_path.glob("out/_units/*.json")}
    assert not list(tmp_path.glob("out/data/*"))
    caplog.set_level("INFO", "ray_app")
    assert analyze.run(cli.parse(analyze.Config, flags, "jobs.analyze", "")) == 0
    assert f"{20 * len(committed):,} rows were committed before" in caplog.text
    assert "-m jobs.analyze verify --output" in capsys.readouterr().out


def test_a_price_per_hour_becomes_an_estimate_and_a_figure(
    reviews: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    analyze.run(config(reviews, bundle_folder, price_per_hour=3_600.0, dry_run=True))
    assert "at 3600 per hour. Nothing was written" in capsys.readouterr().out
    analyze.run(config(reviews, bundle_folder, price_per_hour=3_600.0))
    assert storage.read_json(f"{reviews.parent}/out/_run.json")["cost"] > 0


def test_two_lanes_that_share_the_models_find_what_one_does(
    reviews: Path, bundle_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside a GPU: two units at once, each with a count of its own work."""
    analyze.run(config(reviews, bundle_folder, highlights="exact"))
    one, run = rows(reviews), storage.read_json(f"{reviews.parent}/out/_run.json")
    work = run["engine"]
    load = pipeline.StageWorker._load
    made: list[pipeline.Lane] = []

    def two(self: pipeline.StageWorker, options: analyze.Config, threads: int, last: bool) -> list[pipeline.Lane]:
        [first] = load(self, options, threads, last)
        made[:] = [first, pipeline.Lane(first.runtime.twin(), options, self.out, self.names, last, OwnThread())]
        return made

    monkeypatch.setattr(pipeline.StageWorker, "_load", two)
    folder = reviews.parent / "two" / "out"
    analyze.run(config(reviews, bundle_folder, highlights="exact", output=str(folder)))
    found = storage.read_parquet(f"{folder}/data").to_pylist()
    assert sorted(found, key=lambda row: int(row["review_id"])) == one
    counted = storage.read_json(f"{folder}/_run.json")["engine"]
    assert run["computed_on"] == {choose_device("cpu").arithmetic: 7}
    assert [counted[name] for name in ("tokens", "sequences")] == [work[name] for name in ("tokens", "sequences")]
    assert made[0].runtime.keywords.flat is made[1].runtime.keywords.flat


def test_thresholds_of_a_file_decide_what_is_found_and_are_told(
    reviews: Path, bundle_folder: str, tmp_path: Path
) -> None:
    file = tmp_path / "thresholds.json"
    file.write_text('{"thresholds": {"배송": 0, "만족도": 1}}', encoding="utf-8")
    analyze.run(config(reviews, bundle_folder, thresholds=str(file)))
    file.unlink()  # the run knows them: nobody needs the file again
    found = [{finding["keyword"] for finding in row["findings"]} for row in rows(reviews)]
    assert all("배송" in keywords for keywords in found)
    assert not any("만족도" in keywords for keywords in found)
    run = storage.read_json(f"{reviews.parent}/out/_run.json")
    assert (run["thresholds"]["배송"], run["thresholds"]["만족도"]) == (0, 1)
    again = config(reviews, bundle_folder, thresholds=run["config"]["thresholds"])
    assert analyze.run(again) == 0
