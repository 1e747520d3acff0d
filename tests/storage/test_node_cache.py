"""node_cache: a bundle on S3, loaded by many processes of a node at once, is fetched once and whole."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.inference import bundle
from tests.support.faulty_s3 import FaultyS3
from tests.support.paths import ROOT


@pytest.fixture
def faulty(s3: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setenv("NUNCHI_CACHE", str(tmp_path / "cache"))
    with FaultyS3(s3_server, share=0, stall=30) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def start(uri: str) -> subprocess.Popen[str]:
    """A process that loads a bundle and prints its id."""
    command = [sys.executable, "-m", "tests.support.load_bundle", uri]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_eight_processes_fetch_a_bundle_once(faulty: FaultyS3, s3: str, bundle_folder: str, tmp_path: Path) -> None:
    storage.upload(bundle_folder, f"{s3}/bundle", last="bundle.json")
    faulty.requests.clear()
    loading = [start(f"{s3}/bundle") for _ in range(8)]
    identities = {process.communicate(timeout=60)[0].strip() for process in loading}
    assert identities == {bundle.load(bundle_folder).id}
    files, large = storage.list_files(bundle_folder), 1 << 16
    once = sum(1 + (file.size > large) for file in files)
    assert faulty.requests["GET"] <= 1 + once + 8  # one list, each file once, and each process asks which bundle it is
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_a_process_killed_while_it_fetches_leaves_nothing_half(
    faulty: FaultyS3, s3: str, bundle_folder: str, tmp_path: Path
) -> None:
    storage.upload(bundle_folder, f"{s3}/bundle", last="bundle.json")
    faulty.ahead.extend(["", "", "", "hang"])  # bundle.json, the list, one file; then it stalls
    loading = start(f"{s3}/bundle")
    until = time.monotonic() + 30
    while faulty.ahead and time.monotonic() < until:
        time.sleep(0.05)
    loading.send_signal(signal.SIGKILL)
    loading.communicate()
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [".partial"]
    assert bundle.load(f"{s3}/bundle").id == bundle.load(bundle_folder).id
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [""]
