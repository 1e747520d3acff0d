"""How much a run asks of S3, counted: of a billion rows each request of a unit is made some 600,000 times."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_app import storage
from ray_app.catalog import commit, executors, planning
from ray_app.catalog.catalog_run import CatalogRun
from ray_app.catalog.compaction import Publisher, published
from ray_app.inference import bundle as bundles
from tests.experiments.scale import catalog, config, found, parquet, record, tiny
from tests.support.simulated_s3 import Family, SimulatedS3

OUT = "s3://shop/out"


@pytest.fixture
def s3() -> Iterator[SimulatedS3]:
    with SimulatedS3() as simulated:
        yield simulated


def test_a_unit_is_few_requests(s3: SimulatedS3, bundle_folder: str, tmp_path: Path) -> None:
    s3.families = [catalog(3, rows=8)]
    settings = config(tmp_path, "s3://shop", bundle=bundle_folder, unit_rows=4)
    bundle = bundles.load(bundle_folder)
    run, _ = planning.begin_or_resume(settings, bundle, planning.settings_of(settings, bundle), OUT)
    s3.clear()
    assert len(list(executors.run_here(settings, OUT, run.units, run.columns))) == len(run.units) == 6
    assert s3.calls["list"] == 0
    assert s3.calls.total() <= 9 * len(
        run.units
    )  # 2 or 3 stops, rows, a note put, asked for and removed, parts, marker


def test_an_output_file_is_one_request_per_part_file(s3: SimulatedS3) -> None:
    part = parquet(found(tiny(4).rename_columns(["review_id", "text"])))
    names = [f"{number:04d}" for number in range(200)]
    s3.families = [Family("out/_parts/data/", [f"{name}.parquet" for name in names], lambda _: part, len(part))]
    publisher = Publisher(OUT)
    for name in names:
        one: Any = {"id": name, "parts": {"data": {"name": f"{name}.parquet", "rows": 4, "bytes": len(part)}}}
        publisher.add(one)
    publisher.finish()
    assert s3.calls["get"] == len(names)
    assert s3.calls.total() - s3.calls["get"] <= 20
    assert [done and done["rows"] for _, done in published(OUT)] == [800]


def test_a_resumed_run_reads_the_log_and_the_markers_that_it_lacks(
    s3: SimulatedS3, bundle_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "RECORDS", 40)
    s3.families = [catalog(50, rows=8)]
    settings = config(tmp_path, "s3://shop", bundle=bundle_folder, unit_rows=4)
    bundle = bundles.load(bundle_folder)
    arguments = (settings, bundle, planning.settings_of(settings, bundle), OUT, "bundle")
    units = CatalogRun(*arguments).run.units
    for unit in units[:90]:
        storage.create(f"{OUT}/_units/{unit.id}.json", json.dumps({**record(unit), "parts": {}}).encode())
    assert len(CatalogRun(*arguments).done) == 90  # which writes 80 of them to the log
    storage.remove(f"{OUT}/_units/{units[0].id}.json")  # as who wants a unit anew
    storage.create(f"{OUT}/_units/{units[95].id}.json", json.dumps({**record(units[95]), "parts": {}}).encode())
    s3.clear()
    resumed = CatalogRun(*arguments)
    assert resumed.done == {unit.id for unit in [*units[1:90], units[95]]}
    assert resumed.progress.counts["rows_in"] == 4 * 90
    assert s3.calls["get"] <= 20  # 2 of the log, 11 markers, the plan
