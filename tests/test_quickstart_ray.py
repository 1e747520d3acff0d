"""The newcomer's first command, on less data."""

from pathlib import Path

import pytest

from jobs import quickstart
from ray_app import storage
from ray_app.inference import bundle


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_quickstart_leaves_bundle_analyses_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = quickstart.Config(output=str(tmp_path), catalog_rows=40, training_rows=40, epochs=1, workers=1)
    quickstart.run(config)
    out = capsys.readouterr().out
    assert "40 rows in = " in out
    assert "Next:" in out
    report = storage.read_json(f"{tmp_path}/evaluation/report.json")
    assert report["keywords"]["micro_varying"]["support"] == report["baseline"]["keywords"]["micro_varying"]["support"]
    assert {"hit_rate", "comprehensiveness", "sufficiency", "random"} <= report["highlights"].keys()
    assert len(bundle.load(f"{tmp_path}/bundle").meta.taxonomy.names) == 15
    rows = storage.read_parquet(f"{tmp_path}/analyses/data")
    assert {"review_id", "product", "mall", "findings"} <= set(rows.column_names)
