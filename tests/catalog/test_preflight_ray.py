"""`--highlights recheck` on a real Ray: measured before it may start, and what the engine did is in _run.json."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import analyze, preflight
from ray_app.data.reviews import plan, sample_texts
from ray_app.engine.linear import has_int8
from ray_app.errors import UserError
from ray_app.inference.occlusion import recheck_agreement
from ray_app.inference.runtime import BundleRuntime
from tests.support import bundles

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.skipif(not has_int8(), reason="this torch has no int8 product"),
]

TEXTS = bundles.sample_texts(120)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the fakes, the one whose int8 differs most from its fp32."""
    folder = tmp_path_factory.mktemp("recheck") / "bundle"
    bundles.make_bundle(folder, "electra", max_length=128)
    return str(folder)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("reviews") / "in.parquet"
    pq.write_table(pa.table({"id": list(range(len(TEXTS))), "text": TEXTS}), path)
    return str(path)


def config(reviews: str, bundle: str, output: Path, **changes: Any) -> analyze.Config:
    settings: dict[str, Any] = {"unit_rows": 40, "device": "cpu", "cpus_per_worker": 1.0, "workers": 1}
    return analyze.Config(input=reviews, bundle=bundle, output=str(output), **{**settings, **changes})


def rows(output: Path) -> list[dict[str, Any]]:
    return sorted(storage.read_parquet(f"{output}/data").to_pylist(), key=lambda row: int(row["review_id"]))


def test_recheck_with_room_for_every_word_gives_the_rows_of_an_exact_run_and_tells_what_it_did(
    reviews: str, bundle: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ray_app")
    analyze.run(config(reviews, bundle, tmp_path / "exact", placement="here"))
    assert "as exact does" not in caplog.text
    analyze.run(config(reviews, bundle, tmp_path / "recheck", highlights="recheck", recheck_words=500))
    exact, recheck = rows(tmp_path / "exact"), rows(tmp_path / "recheck")
    assert recheck == exact
    assert [row["review_id"] for row in exact] == [str(i) for i in range(len(TEXTS))]

    run = storage.read_json(f"{tmp_path}/recheck/_run.json")
    findings = sum(len(row["findings"]) for row in exact)
    assert run["recheck"] == {"agreement": 1.0, "findings": findings, "floor": 0.98}  # the sample is all there is
    assert f"recheck finds 100.0% of {findings:,} highlights as exact does" in caplog.text
    other = storage.read_json(f"{tmp_path}/exact/_run.json")
    assert "recheck" not in other
    masked = sum(bool(row["findings"]) for row in exact)
    for engine in (run["engine"], other["engine"]):
        assert engine["tokens"] > 0
        assert engine["padding_share"] < 0.02  # rows that fill up the last, small shapes
        assert engine["gemm_ratio"] > 0
        assert engine["reviews_masked"] == pytest.approx(masked / len(exact), abs=1e-4)
    variants = run["engine"]["sequences"] - other["engine"]["sequences"]  # all in int8 too
    assert variants / masked == pytest.approx(other["engine"]["words_a_review"], abs=0.01)
    analyze.run(config(reviews, bundle, tmp_path / "highlights", placement="here", opinions=False))
    highlights = storage.read_json(f"{tmp_path}/highlights/_run.json")
    assert highlights["engine"]["sequences"] == len(exact) + findings + variants
    assert caplog.text.count("several times the work") == 2


def test_a_floor_that_recheck_cannot_meet_stops_the_job_before_it_writes(
    reviews: str, bundle: str, tmp_path: Path
) -> None:
    share, findings = recheck_agreement(BundleRuntime(bundle, "cpu"), TEXTS, "space", 1)
    assert 0.5 < share < 1
    with pytest.raises(UserError, match=f"finds {share:.1%} of {findings:,} .*--recheck-floor 1;") as raised:
        analyze.run(config(reviews, bundle, tmp_path / "out", highlights="recheck", recheck_words=1, recheck_floor=1.0))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "_plan").exists()


def test_a_mistake_that_shows_on_a_worker_is_one_line_too(reviews: str, tmp_path: Path) -> None:
    bundles.make_bundle(tmp_path / "bundle", mask_token=False)
    with pytest.raises(UserError, match="has no mask token; write --highlights off") as raised:
        analyze.run(config(reviews, str(tmp_path / "bundle"), tmp_path / "out", highlights="recheck"))
    assert "\n" not in str(raised.value)


def test_the_sample_comes_from_all_over_the_input(tmp_path: Path) -> None:
    """31 units of 4 rows: the last row of all is in it."""
    pq.write_table(
        pa.table({"id": list(range(124)), "text": [f"리뷰 {i}" for i in range(124)]}), tmp_path / "in.parquet"
    )
    planned = plan(str(tmp_path / "in.parquet"), "", (), 4, "", 0)
    texts = sample_texts(planned.units, planned.columns, preflight.SAMPLE_REVIEWS)
    assert {"리뷰 0", "리뷰 123"} <= set(texts)
    assert 64 <= len(texts) <= preflight.SAMPLE_REVIEWS
