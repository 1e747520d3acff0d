"""An output is checked against what its run promised."""

from pathlib import Path

import pytest

from ray_app.catalog import analyze, commit, manifest, verify
from ray_app.errors import UserError
from tests.support.catalog_run import config, verified, write


def test_verify_names_what_is_missing_changed_or_foreign(
    reviews: Path, bundle_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    analyze.run(config(reviews, bundle_folder))
    out = reviews.parent / "out"
    run = manifest.load(str(out))
    assert run is not None
    Path(commit.marker(str(out), run.units[1].id)).unlink()
    write(out / "data" / "mine.parquet", 0, 5)
    data = out / "data" / "part-000000.parquet"
    data.write_bytes(data.read_bytes() + b" ")
    capsys.readouterr()
    assert verified(reviews) == 1
    output = capsys.readouterr().out
    for words in (
        "a.parquet, rows 8 to 15",
        "part-000000.parquet: changed since it was written",
        "mine.parquet: not written by this run",
    ):
        assert words in output
    data.unlink()
    assert verified(reviews) == 1
    assert "part-000000.parquet: missing" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no run of jobs\.analyze there"):
        verify.run(verify.Config(output=str(reviews)))
