"""kill -9 of the driver while text files, tiny files and a huge row group go through Ray: no row is lost or doubled."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_app import storage
from ray_app.catalog import verify
from tests.support.bundles import sample_texts
from tests.support.paths import ROOT

pytestmark = pytest.mark.ray
TEXTS = sample_texts(60)
CSV_ROWS, GROUP_ROWS, TINY = 900, 900, 100


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = "".join(f'c{i},"{TEXTS[i % 60]}\n{i}"\n' for i in range(CSV_ROWS))
    (folder / "a.csv").write_bytes(f"리뷰번호,리뷰내용\n{lines}".encode("cp949"))
    for i in range(TINY):
        pq.write_table(
            pa.table({"id": [f"t{i}-{n}" for n in range(3)], "text": TEXTS[:3]}), folder / f"t{i:03d}.parquet"
        )
    table = pa.table({"id": [f"g{i}" for i in range(GROUP_ROWS)], "text": [TEXTS[i % 60] for i in range(GROUP_ROWS)]})
    pq.write_table(table, folder / "z.parquet", row_group_size=GROUP_ROWS)
    return folder


def committed(out: Path) -> int:
    return len(list((out / "_units").glob("*.json")))


def test_no_row_is_lost_or_doubled(catalog: Path, bundle_folder: str, tmp_path: Path) -> None:
    out, log = tmp_path / "out", (tmp_path / "log").open("ab")
    paths = ["--input", str(catalog), "--bundle", bundle_folder, "--output", str(out)]
    size = ["--unit-rows", "60", "--workers", "2", "--cpus-per-worker", "0.5", "--device", "cpu"]
    command = [sys.executable, "-m", "jobs.analyze", *paths, *size]
    for _ in range(2):
        before = committed(out)
        driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while driver.poll() is None and committed(out) < before + 4:
            time.sleep(0.02)
        driver.kill()
        driver.wait()
    killed_at = committed(out)
    assert subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode == 0, (
        tmp_path / "log"
    ).read_text()
    ids = storage.read_parquet(f"{out}/data")["review_id"].to_pylist()
    assert len(ids) == len(set(ids)) == CSV_ROWS + GROUP_ROWS + 3 * TINY
    assert verify.run(verify.Config(output=str(out))) == 0
    assert 4 <= killed_at < committed(out)
