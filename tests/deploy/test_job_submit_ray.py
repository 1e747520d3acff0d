"""A cluster started as cluster.yaml starts one: closed without its token, and `ray job submit` there and back."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import requests

from ray_app import storage
from tests.support.paths import ROOT
from tests.support.ray_head import Head, head

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("token", ["", "Bearer wrong"])
def test_a_request_without_the_token_is_refused(cluster: Head, token: str) -> None:
    job = {"entrypoint": "touch /tmp/never"}
    asked = requests.post(f"{cluster.dashboard}/api/jobs/", json=job, headers={"Authorization": token}, timeout=60)
    assert asked.status_code in (401, 403)
    listed = requests.get(f"{cluster.dashboard}/api/jobs/", headers={"Authorization": token}, timeout=60)
    assert listed.status_code in (401, 403)


def test_the_token_opens_it(cluster: Head) -> None:
    with_token = {"Authorization": f"Bearer {cluster.token}"}
    assert requests.get(f"{cluster.dashboard}/api/jobs/", headers=with_token, timeout=60).status_code == 200


def test_a_submitted_job_analyses_reports_and_cannot_be_submitted_twice(
    cluster: Head, submitted: tuple[subprocess.CompletedProcess[str], tuple[str, ...], Path]
) -> None:
    done, command, output = submitted
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 rows in = 39 analyzed + 1 rejected" in done.stdout  # the job's own words, as they came
    assert "'nightly' succeeded" in cluster.run("ray", "job", "status", "nightly").stdout
    assert len(storage.read_parquet(f"{output}/data")) == 39
    again = cluster.run(*command)
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr


@pytest.mark.skipif(not os.environ.get("NUNCHI_SLOW"), reason="takes two minutes; NUNCHI_SLOW=1 runs it")
def test_a_stopped_job_is_gone_on_with_by_submitting_it_again(
    cluster: Head, bundle_folder: str, tmp_path: Path
) -> None:
    command = (
        *("--working-dir", str(ROOT), "--", "python", "-m", "jobs.analyze", "--bundle", bundle_folder),
        *("--output", str(tmp_path / "out"), "--limit", "300", "--unit-rows", "10", "--device", "cpu"),
    )
    assert cluster.run("ray", "job", "submit", "--no-wait", "--submission-id", "first", *command).returncode == 0
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("out/_units/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "stopped" in cluster.run("ray", "job", "stop", "first").stdout
    committed = len(list(tmp_path.glob("out/_units/*.json")))
    assert 3 <= committed < 30
    assert not (tmp_path / "out" / "_run.json").exists()
    done = cluster.run("ray", "job", "submit", "--submission-id", "second", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    run = storage.read_json(f"{tmp_path}/out/_run.json")
    assert (run["rows_in"], run["rows_of_this_run"] <= 300 - 10 * committed) == (300, True)
    ids = storage.read_parquet(f"{tmp_path}/out/data")["review_id"].to_pylist()
    assert len(ids) == len(set(ids)) == run["analysed"]


def test_the_doctor_finds_nothing_wrong_with_it(cluster: Head) -> None:
    found = cluster.run("python", "-m", "jobs.analyze", "doctor", RAY_ADDRESS=cluster.gcs)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok    dashboard  http://127.0.0.1" in found.stdout
    assert "refuses a request without a token (401)" in found.stdout
    assert "1 nodes, 9 CPUs" in found.stdout


def test_the_doctor_finds_a_client_that_has_no_token(cluster: Head) -> None:
    command = ("python", "-m", "jobs.analyze", "doctor", "--seconds", "5")
    found = cluster.run(*command, RAY_ADDRESS=cluster.gcs, RAY_AUTH_MODE="disabled")
    assert found.returncode == 1
    assert "fail  token      RAY_AUTH_MODE is disabled" in found.stdout


def test_a_cluster_that_asks_for_no_token_is_told_of() -> None:
    """By `doctor`, and by every job that joins it, as `doctor` does."""
    with head(cpus=1, RAY_AUTH_MODE="disabled") as open_cluster:
        found = open_cluster.run("python", "-m", "jobs.analyze", "doctor", RAY_ADDRESS=open_cluster.gcs)
    assert found.returncode == 1
    port, asks = open_cluster.gcs.partition(":")[2], "asks for no token: anyone who reaches it can run code there"
    assert re.search(rf"^warn  cluster    \S+:{port} {asks}", found.stdout, re.M), found.stdout
    assert re.search(rf"^warning: the Ray cluster at \S+:{port} {asks}", found.stderr, re.M), found.stderr
    assert "CVE-2023-48022" in found.stdout
