"""The catalog job on a real Ray: every row accounted for, and the same results as in process."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import analyze
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from tests.support.bundles import sample_texts
from tests.support.paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TEXTS = sample_texts(60)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files with bad rows between the good ones, and one that is no Parquet."""
    folder = tmp_path_factory.mktemp("catalog")
    first: dict[str, list[Any]] = {
        "번호": [*range(30), 29, None, 31, 32],
        "리뷰내용": [*TEXTS[:30], "같은 번호", "번호 없음", None, " "],
        "mall": ["가"] * 34,
    }
    second = {"번호": list(range(100, 130)), "리뷰내용": TEXTS[30:], "mall": ["나"] * 30}
    pq.write_table(pa.table(first), folder / "a.parquet", row_group_size=20)
    pq.write_table(pa.table(second), folder / "b.parquet")
    (folder / "c.parquet").write_bytes(b"PAR1 not really PAR1")
    return folder


def config(catalog: Path, bundle: str, output: Path, **changes: Any) -> analyze.Config:
    settings: dict[str, Any] = {
        "input": str(catalog),
        "bundle": bundle,
        "output": str(output),
        "keep": "mall",
        "unit_rows": 16,
        "device": "cpu",
        "cpus_per_worker": 1.0,
    }
    return analyze.Config(**{**settings, **changes})


def by_id(output: Path) -> dict[str, dict[str, Any]]:
    return {row["review_id"]: row for row in storage.read_parquet(f"{output}/data").to_pylist()}


@pytest.mark.parametrize("placement", ["fused", "pools"])
def test_the_catalog_job_equals_the_graph_in_process(
    catalog: Path, bundle_folder: str, tmp_path: Path, placement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = analyze.run(config(catalog, bundle_folder, tmp_path, placement=placement))
    analyses, run = by_id(tmp_path), storage.read_json(f"{tmp_path}/_run.json")
    assert code == analyze.REJECTS_EXIT  # c.parquet could not be read
    assert (run["rows_in"], run["analysed"], run["rejected"]) == (64, 60, 4)
    assert "64 rows in = 60 analyzed + 4 rejected" in capsys.readouterr().out
    texts = dict(zip([*map(str, range(30)), *map(str, range(100, 130))], TEXTS, strict=True))
    in_process = dict(zip(texts, Analyzer(bundle_folder, device="cpu")(list(texts.values())), strict=True))
    assert analyses.keys() == in_process.keys()
    for review_id, expected in in_process.items():
        assert same(analyses[review_id], expected)
    assert {row["mall"] for row in analyses.values()} == {"가", "나"}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same keywords, scores and words; probabilities within 1e-4."""

    def key(row: Mapping[str, Any]) -> list[Any]:
        return [(f["keyword"], f["score"], f["highlight"] and f["highlight"]["start"]) for f in row["findings"]]

    near = [
        abs(a - b) <= 1.01e-4 for a, b in zip(one["keyword_probabilities"], other["keyword_probabilities"], strict=True)
    ]
    return key(one) == key(other) and all(near)


def test_rejected_rows_are_kept_with_reason_file_and_row(catalog: Path, bundle_folder: str, tmp_path: Path) -> None:
    analyze.run(config(catalog, bundle_folder, tmp_path, highlights="off", unit_rows=100, placement="here"))
    rejected = storage.read_parquet(f"{tmp_path}/rejected").to_pylist()
    [file] = [row for row in rejected if row["file"].endswith("c.parquet")]
    assert file["reason"].startswith("unreadable Parquet file: ")
    rejected.remove(file)
    assert {(row["row"], row["reason"]) for row in rejected} == {
        (30, "id already seen in its unit"),
        (31, "null id"),
        (32, "null text"),
        (33, "empty text"),
    }
    assert all(row["file"].endswith("a.parquet") for row in rejected)
    assert all(f["highlight"] is None for row in by_id(tmp_path).values() for f in row["findings"])


def test_an_output_that_exists_is_never_overwritten(catalog: Path, bundle_folder: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match=r"--output .*: not empty"):
        analyze.run(config(catalog, bundle_folder, tmp_path))


def test_a_dry_run_estimates_and_writes_nothing(
    catalog: Path, bundle_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze.run(config(catalog, bundle_folder, tmp_path / "out", dry_run=True)) == 0
    out = capsys.readouterr().out
    assert "review_id=번호 text=리뷰내용" in out
    assert "rows/s" in out
    assert not (tmp_path / "out").exists()


def test_limit_takes_exactly_that_many_rows_and_text_can_be_kept(bundle_folder: str, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": list(range(60)), "text": TEXTS}), source)
    settings = {"limit": 21, "highlights": "off", "keep": "text", "placement": "here"}
    analyze.run(config(source, bundle_folder, tmp_path / "out", **settings))
    assert {key: row["text"] for key, row in by_id(tmp_path / "out").items()} == {str(i): TEXTS[i] for i in range(21)}


def test_more_workers_than_cpus_are_refused_at_once(catalog: Path, bundle_folder: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lower --workers"):
        analyze.run(config(catalog, bundle_folder, tmp_path / "out", workers=4, cpus_per_worker=1.0))


def test_reviews_bundle_and_output_may_all_lie_on_s3(s3: str, bundle_folder: str, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": list(range(20)), "text": TEXTS[:20]}), source)
    storage.write_bytes(f"{s3}/in/a.parquet", source.read_bytes())
    storage.upload(bundle_folder, f"{s3}/bundle", last="bundle.json")
    command = [sys.executable, "-m", "jobs.analyze", "--input", f"{s3}/in/*.parquet", "--bundle", f"{s3}/bundle"]
    done = subprocess.run(
        [*command, "--output", f"{s3}/out", "--highlights", "off", "--device", "cpu", "--placement", "fused"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 rows in = 20 analyzed + 0 rejected" in done.stdout
    assert len(storage.read_parquet(f"{s3}/out/data")) == 20


def test_no_line_of_rays_core_reaches_the_terminal(bundle_folder: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.analyze", "--bundle", bundle_folder, "--output", f"{tmp_path}/out"]
    done = subprocess.run(
        [*command, "--limit", "20", "--highlights", "off", "--device", "cpu", "--placement", "fused"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "core_worker.cc" not in done.stderr
    assert not re.search(r"\w+\.cc:\d+", done.stderr), done.stderr
    assert "rows in 1 units" in done.stderr  # the job's own notes do
