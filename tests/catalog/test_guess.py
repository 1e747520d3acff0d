"""A catalog run on keywords that nobody labeled: the bundle that it makes for itself, kept and refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import analyze
from ray_app.catalog.options import Config
from ray_app.data import taxonomy as taxonomies
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference import bundle_names

TAXONOMY = """
name: 호텔
keywords:
- {name: 서비스, cues: [직원, 친절]}
- {name: 객실, cues: [방, 침대]}
"""
TEXTS = [
    f"{first} {second}"
    for first in ("직원이 친절해요", "방이 더러워요", "침대가 편해요")
    for second in "가나다라마바사아"
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "mine.yaml").write_text(TAXONOMY, encoding="utf-8")
    pq.write_table(pa.table({"id": [str(i) for i in range(len(TEXTS))], "text": TEXTS}), tmp_path / "in.parquet")
    return given(tmp_path)


def given(folder: Path, **options: Any) -> Config:
    return Config(
        input=str(folder / "in.parquet"),
        taxonomy=str(folder / "mine.yaml"),
        output=str(folder / "out"),
        placement="here",
        device="cpu",
        **options,
    )


def test_a_first_guess_is_made_kept_and_said(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze.run(config) == 0
    printed = capsys.readouterr().out
    assert "These findings are a first guess" in printed
    assert "jobs.acquire --analyses" in printed
    kept = bundles.load(str(tmp_path / "out.bundle"))
    assert kept.meta.taxonomy.names == ("서비스", "객실")
    rows = storage.read_parquet(str(tmp_path / "out" / "data")).to_pylist()
    found = {row["text"].split()[0]: {one["keyword"]: one["score"] for one in row["findings"]} for row in rows}
    assert {text: list(scores) for text, scores in found.items()} == {
        "직원이": ["서비스"],
        "방이": ["객실"],
        "침대가": ["객실"],
    }
    assert found["직원이"]["서비스"] > 0 > found["방이"]["객실"]
    assert storage.read_json(str(tmp_path / "out" / "_run.json"))["bundle"] == kept.id
    assert analyze.run(config) == 0  # nothing is guessed again
    assert bundles.load(str(tmp_path / "out.bundle")).id == kept.id


def test_another_taxonomy_on_the_same_output_is_refused(config: Config, tmp_path: Path) -> None:
    storage.upload(str(bundle_names.READY), str(tmp_path / "out.bundle"))
    with pytest.raises(UserError, match=r"out\.bundle is of another taxonomy; remove it or name another --output"):
        analyze.run(config)


def test_the_taxonomy_that_the_bundle_knows_needs_no_guess(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(taxonomies.dump(taxonomies.load()), encoding="utf-8")
    assert analyze.run(config) == 0
    assert "first guess" not in capsys.readouterr().out
    assert not (tmp_path / "out.bundle").exists()


def test_a_dry_run_keeps_nothing(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze.run(given(tmp_path, dry_run=True)) == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "out.bundle").exists()
    assert not (tmp_path / "out").exists()


def test_a_taxonomy_that_cannot_be_read_is_refused_before_anything(config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("keywords: 배송", encoding="utf-8")
    with pytest.raises(UserError, match="keywords must be a list"):
        analyze.run(config)
    assert not (tmp_path / "out.bundle").exists()
