"""What hostile and ordinary clients get: `python -m tests.experiments.hostile_clients NAME`.

    ports       every port that a local analyze, train and serve open, and what each answers a stranger

Jobs run on small random bundles; only ratios within one run count.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import stranger
from tests.support.bundles import make_bundle
from tests.support.paths import ROOT
from tests.support.ray_head import free_port

START_SECONDS = 40  # until every process of a job listens, on a busy machine


@contextmanager
def job(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A job in a process of its own, stopped at the end of the block."""
    log = Path(tempfile.gettempdir()) / "hostile-clients.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(90)


def ports(folder: Path) -> None:
    """A Markdown table: job, process, what it listens for, statuses and codes without a token."""
    make_bundle(folder / "bundle")
    bundle, out = ("--bundle", str(folder / "bundle")), str(folder / "out")
    jobs = {
        "analyze": ("jobs.analyze", *bundle, "--output", out, "--limit", "20000", "--unit-rows", "50"),
        "train": (
            "jobs.train",
            "--labels",
            "sample",
            "--base-model",
            "starter",
            "--workers",
            "1",
            "--output",
            str(folder / "trained"),
        ),
        "serve": ("jobs.serve", *bundle, "--port", str(free_port()), "--replicas", "1"),
    }
    print("| job | process | ports | POST to job APIs | GET / | gRPC |\n| --- | --- | --- | --- | --- | --- |")
    for name, command in jobs.items():
        with job(*command) as process:
            time.sleep(START_SECONDS)
            findings = stranger.ask(stranger.ports_of(process.pid), stranger.address())
        rows: dict[tuple[str, ...], int] = {}
        for found in findings:
            posts, codes = sorted(set(found["post"])), sorted(set(found["grpc"].values()))
            get = str(found["get"] or "-")
            key = (found["process"], " ".join(map(str, posts)) or "-", get, " ".join(codes) or "-")
            rows[key] = rows.get(key, 0) + 1
        for (owner, posts_, get, codes_), count in rows.items():
            print(f"| {name} | {owner} | {count} | {posts_} | {get} | {codes_} |", flush=True)


EXPERIMENTS = {"ports": ports}


def main() -> None:
    """Runs one experiment in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(EXPERIMENTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        EXPERIMENTS[options.name](Path(folder))


if __name__ == "__main__":
    main()
