"""acquire: a batch from analyses on disk, by the job's own entry point."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.active_learning.acquire import AcquireReport, Config, run
from ray_app.active_learning.merge import MergeConfig, merge
from ray_app.data.taxonomy import load
from ray_app.errors import UserError
from ray_app.labels.reader import read_labels
from ray_app.sample import written_reviews
from tests.experiments import synthetic_analyses

ROWS = 900
PHRASES = np.array([row["text"] for row in written_reviews()], object)


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    return synthetic_analyses.table(np.random.default_rng(0), PHRASES, 0, ROWS, 16)


def analyzed(folder: Path, table: pa.Table, per_file: int = 200) -> str:
    """Writes analyses in files of some rows each."""
    (folder / "data").mkdir(parents=True)
    for first in range(0, len(table), per_file):
        pq.write_table(table.slice(first, per_file), folder / "data" / f"{first:05d}.parquet", row_group_size=70)
    return str(folder)


@pytest.fixture(scope="module")
def catalog(whole: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> str:
    return analyzed(tmp_path_factory.mktemp("analyses") / "run", whole)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("labels")
    rows = [{name: row[name] for name in ("review_id", "text", "labels")} for row in written_reviews()[:250]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")
    return str(folder / "labels.parquet")


def acquired(folder: Path, **options: Any) -> tuple[pa.Table, AcquireReport]:
    output = str(folder / f"batch-{len(list(folder.iterdir()))}")
    options = {"formats": "csv", "budget": 60, **options, "output": output}
    report = run(Config(**options))
    return storage.read_parquet(f"{output}/batch.parquet"), report


def test_a_batch_follows_the_catalog_and_says_why_each_was_chosen(
    catalog: str, whole: pa.Table, labeled: str, tmp_path: Path
) -> None:
    batch, report = acquired(
        tmp_path, analyses=catalog, labels=labeled, stratify="mall,category", mix="boundary=2,rare=1,outlier=1"
    )
    assert len(batch) == len(set(batch["review_id"].to_pylist())) == 60
    assert report["by_criterion"] == {"boundary": 30, "rare": 15, "outlier": 15}
    for row in report["strata"]:
        assert abs(row["chosen"] - row["reviews"] * 60 / ROWS) < 1
    assert sum(row["reviews"] for row in report["strata"]) == ROWS
    given = {row["review_id"]: row for row in whole.to_pylist()}
    for row in batch.to_pylist():
        for name in ("text", "mall", "category", "findings"):
            assert row[name] == given[row["review_id"]][name]
        for name in ("boundary", "unsure_keyword", "unsure_score", "rare", "outlier"):
            assert row[name] is not None
    assert storage.read_json(f"{report['config']['output']}/acquire.json") == report


def test_the_values_are_the_formulas_and_the_highest_are_chosen(catalog: str, whole: pa.Table, tmp_path: Path) -> None:
    batch, _ = acquired(tmp_path, analyses=catalog, strategy="boundary", budget=10)
    expected = {}
    for row in whole.to_pylist():
        keyword = max(1 - abs(p - 0.5) / 0.5 for p in row["keyword_probabilities"])
        score = max([(1 - max(f["score_probabilities"])) * 5 / 4 for f in row["findings"]], default=0)
        expected[row["review_id"]] = (keyword + score) / 2
    assert sorted(batch["boundary"].to_pylist()) == pytest.approx(sorted(expected.values())[-10:], abs=1e-3)
    for row in batch.to_pylist():
        assert row["boundary"] == pytest.approx(expected[row["review_id"]], abs=1e-3)


@pytest.mark.parametrize("strategy", ["boundary", "random", "outlier", "rare", "diverse", "mix"])
def test_the_same_batch_whatever_the_order_and_size_of_files(
    whole: pa.Table, catalog: str, labeled: str, tmp_path: Path, strategy: str
) -> None:
    order = np.random.default_rng(3).permutation(ROWS)
    other = analyzed(tmp_path / "other", whole.take(pa.array(order)), per_file=331)
    options = {"strategy": strategy, "labels": labeled, "stratify": "mall"}
    one, _ = acquired(tmp_path, analyses=catalog, **options)
    two, _ = acquired(tmp_path, analyses=other, **options)
    same = set(one["review_id"].to_pylist()) & set(two["review_id"].to_pylist())
    clustered = strategy in ("outlier", "mix", "diverse")  # sums of floats in another order move a distance by an ulp
    assert len(same) >= (57 if clustered else 60)


def test_the_seed_changes_what_is_drawn_and_nothing_else_does(catalog: str, tmp_path: Path) -> None:
    ids = [
        acquired(tmp_path, analyses=catalog, strategy="random", seed=seed)[0]["review_id"].to_pylist()
        for seed in (1, 1, 2)
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0]) & set(ids[2])) < 20


def test_labeled_reviews_are_left_out_by_id_and_by_text(catalog: str, whole: pa.Table, tmp_path: Path) -> None:
    rows = whole.slice(0, 400).to_pylist()
    labels = [{"keyword": "만족도", "score": 1}, {"keyword": "배송", "score": -1}]
    labeled = [{"review_id": row["review_id"], "text": f"{i}", "labels": labels} for i, row in enumerate(rows[:300])]
    other = [{"review_id": f"o{i}", "text": f"{row['text']}!", "labels": labels} for i, row in enumerate(rows[300:])]
    pq.write_table(pa.Table.from_pylist(labeled + other), tmp_path / "labels.parquet")
    batch, report = acquired(tmp_path, analyses=catalog, labels=str(tmp_path / "labels.parquet"), budget=ROWS)
    assert report["reviews_without_labels"] == 600
    assert not {row["review_id"] for row in rows} & set(batch["review_id"].to_pylist())
    assert 480 < len(batch) <= 500  # a few of the rest are near-duplicates of one another


def bundle_json(folder: Path, threshold: float) -> str:
    taxonomy = load()
    content = {"id": "b1", "taxonomy": taxonomy.to_dict(), "thresholds": [threshold] * len(taxonomy.names)}
    storage.write_json(str(folder / "bundle.json"), content)
    return str(folder)


def test_thresholds_come_from_the_bundle_that_the_analyses_name(whole: pa.Table, tmp_path: Path) -> None:
    bundle, folder = bundle_json(tmp_path / "bundle", 0.9), analyzed(tmp_path / "run", whole)
    plain, _ = acquired(tmp_path, analyses=folder, strategy="boundary")
    storage.write_json(f"{folder}/_run.json", {"bundle": "b1", "config": {"bundle": bundle}})
    named, _ = acquired(tmp_path, analyses=folder, strategy="boundary")
    assert set(named["review_id"].to_pylist()) != set(plain["review_id"].to_pylist())
    given = dict(zip(*(whole[name].to_pylist() for name in ("review_id", "keyword_probabilities")), strict=True))
    for row in named.to_pylist():
        nearest = min(abs(p - 0.9) / (0.1 if p >= 0.9 else 0.9) for p in given[row["review_id"]])
        assert row["unsure_keyword"] == pytest.approx(1 - nearest, abs=1e-3)
    storage.write_json(f"{folder}/_run.json", {"bundle": "b2", "config": {"bundle": bundle}})
    other, _ = acquired(tmp_path, analyses=folder, strategy="boundary")
    assert other["review_id"].to_pylist() == plain["review_id"].to_pylist()
    with pytest.raises(UserError, match="the analyses were made by b2"):
        acquired(tmp_path, analyses=folder, bundle=bundle)


def test_every_keyword_has_its_floor(catalog: str, whole: pa.Table, tmp_path: Path) -> None:
    bundle = bundle_json(tmp_path / "bundle", 0.5)
    batch, _ = acquired(tmp_path, analyses=catalog, bundle=bundle, floor=10, budget=150, strategy="random")
    keywords = [finding["keyword"] for findings in batch["findings"].to_pylist() for finding in findings]
    assert len(batch) == 150
    assert all(keywords.count(name) >= 10 for name in load().names)


def test_texts_come_from_the_catalog_where_the_analyses_have_none(
    whole: pa.Table, catalog: str, tmp_path: Path
) -> None:
    bare = analyzed(tmp_path / "run", whole.drop_columns(["text"]))
    pq.write_table(whole.select(["text", "review_id"]).take(pa.array(np.arange(ROWS)[::-1])), tmp_path / "shop.parquet")
    batch, _ = acquired(tmp_path, analyses=bare, input=str(tmp_path / "shop.parquet"), strategy="random")
    same, _ = acquired(tmp_path, analyses=catalog, strategy="random")
    assert batch.select(["review_id", "text"]) == same.select(["review_id", "text"])
    pq.write_table(whole.select(["text", "review_id"]).slice(0, 100), tmp_path / "part.parquet")
    with pytest.raises(UserError, match="analyzed reviews are missing"):
        acquired(tmp_path, analyses=bare, input=str(tmp_path / "part.parquet"))


def test_a_partition_column_is_a_column_like_the_others(whole: pa.Table, catalog: str, tmp_path: Path) -> None:
    for mall in set(whole["mall"].to_pylist()):
        rows = whole.filter(pc.equal(whole["mall"], mall)).drop_columns(["mall"])
        storage.write_parquet(f"{tmp_path}/run/data/mall={storage.safe_name(mall)}/part-0.parquet", rows)
    batch, report = acquired(tmp_path, analyses=str(tmp_path / "run"), stratify="mall", strategy="boundary")
    same, flat = acquired(tmp_path, analyses=catalog, stratify="mall", strategy="boundary")
    assert report["strata"] == flat["strata"]
    assert Counter(batch["mall"].to_pylist()) == Counter(same["mall"].to_pylist())


def test_fewer_than_the_budget_is_reported(catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch, _ = acquired(tmp_path, analyses=catalog, budget=2 * ROWS, strategy="random")
    assert 800 < len(batch) <= ROWS
    assert "fewer than --budget 1,800" in capsys.readouterr().out


def test_a_catalog_without_rows_gives_an_empty_batch(whole: pa.Table, tmp_path: Path) -> None:
    folder = analyzed(tmp_path / "run", whole.slice(0, 1))
    pq.write_table(whole.slice(0, 0), tmp_path / "run" / "data" / "00000.parquet")
    batch, report = acquired(tmp_path, analyses=folder, strategy="boundary", stratify="mall")
    assert (len(batch), report["reviews_without_labels"]) == (0, 0)


@pytest.mark.parametrize(
    ("drop", "options", "message"),
    [
        ([], {"analyses": "nowhere"}, "nowhere: no such file or folder"),
        ([], {"stratify": "mal"}, "--stratify mal: .* no column 'mal'; did you mean 'mall'.*--keep mal"),
        (["text"], {}, "no texts there; name the catalog with --input"),
        (["embedding"], {"strategy": "outlier"}, "outlier needs analyses made with --embeddings"),
        (["embedding"], {"mix": "diverse=1"}, "diverse needs analyses made with --embeddings"),
        ([], {"strategy": "rare"}, "rare needs --labels"),
        ([], {"mix": "boundry=1"}, "did you mean 'boundary'"),
        ([], {"floor": 2}, "--floor needs the names of the keywords: name a bundle"),
        ([], {"formats": "cvs"}, "--formats cvs: no such format; did you mean 'csv'"),
        ([], {"bundle": "nowhere"}, "--bundle nowhere: no bundle there"),
        (["findings"], {}, "no column 'findings'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_read(
    whole: pa.Table, tmp_path: Path, drop: list[str], options: dict[str, Any], message: str
) -> None:
    folder = analyzed(tmp_path / "run", whole.drop_columns(drop))
    with pytest.raises(UserError, match=message) as caught:
        acquired(tmp_path, **{"analyses": folder, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "--budget 0"),
        ({"floor": -1}, "--floor -1"),
        ({"alike": 0.0}, "--alike 0.0"),
        ({"strategy": "random", "mix": "boundary=1"}, "--mix and --strategy random"),
        ({"merge": "answers/"}, "--merge is now a sub-command: python -m jobs.acquire merge --answers answers/"),
        ({"batch": "runs/batch"}, "--batch: an option of python -m jobs.acquire merge"),
        ({"round": "2"}, "--round: an option of python -m jobs.acquire merge"),
        ({"resolve": "newest"}, "--resolve: an option of python -m jobs.acquire merge"),
        ({"on_bad_label": "drop"}, "--on-bad-label: an option of python -m jobs.acquire merge"),
    ],
)
def test_options_that_make_no_sense_or_moved_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_a_floor_over_the_budget_is_refused(catalog: str, tmp_path: Path) -> None:
    bundle = bundle_json(tmp_path / "bundle", 0.5)
    with pytest.raises(UserError, match="--floor 10: 150 reviews in all, over --budget 60"):
        acquired(tmp_path, analyses=catalog, bundle=bundle, floor=10)


def test_a_broken_file_is_named(whole: pa.Table, tmp_path: Path) -> None:
    folder = analyzed(tmp_path / "run", whole)
    (tmp_path / "run" / "data" / "00200.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(UserError, match=r"00200\.parquet: not a readable Parquet file"):
        acquired(tmp_path, analyses=folder)


def test_nothing_is_overwritten(catalog: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with pytest.raises(UserError, match=r"--output .*: not empty"):
        run(Config(analyses=catalog, output=str(tmp_path)))


def test_answers_join_the_labels_and_are_not_chosen_again(
    catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch, report = acquired(tmp_path, analyses=catalog, strategy="random", budget=20)
    command = f"-m jobs.acquire merge --answers YOUR_ANSWERS --batch {report['config']['output']}"
    assert capsys.readouterr().out.splitlines()[-1].endswith(command)
    sheet = Path(report["config"]["output"]) / "csv" / "reviews.csv"
    header, *lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    answered = tmp_path / "jiwoo.csv"
    at = header.split(",").index("Completion")
    assert at == 2
    filled = [header, *(line.replace(",,", ',"만족도 1, 배송 -1",', 1) for line in lines)]
    answered.write_text("\n".join(filled), encoding="utf-8")
    merged = merge(
        MergeConfig(
            answers=str(answered), batch=report["config"]["output"], output=str(tmp_path / "labels-2"), round="2"
        )
    )
    assert merged["new"] == 20
    command = f"-m jobs.train --labels {merged['labels']} --taxonomy default"
    assert capsys.readouterr().out.splitlines()[-1].endswith(command)
    labeled = read_labels(merged["labels"])
    assert set(labeled.table["review_id"].to_pylist()) == set(batch["review_id"].to_pylist())
    again, _ = acquired(tmp_path, analyses=catalog, strategy="random", budget=20, labels=merged["labels"])
    assert not set(again["review_id"].to_pylist()) & set(batch["review_id"].to_pylist())
