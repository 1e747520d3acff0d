"""Whether anything grows: `python -m tests.experiments.soak endpoint | catalog --minutes M`. Not a test.

    endpoint    a replica behind the door under mixed load: single reviews, forty at once, refused and malformed bodies,
                clients that send half a head or nothing, another bundle every 20 s; in the last fifth it is killed
                every 30 s. Every answer is compared with what the two bundles say.
    catalog     runs back to back in one process, each on a new output, compared with the first

Both sample resident memory, file descriptors, threads and temporary files of the process, and print for each what it
was at first and at last, and its slope after a warm-up, with twice its standard error. `--svg F` draws them.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
import uvicorn

from ray_app import storage
from ray_app.errors import UserError
from ray_app.inference.analyzer import Analyzer
from ray_app.serving.client import Client
from tests.support.bundles import make_bundle, sample_texts
from tests.support.paths import ROOT
from tests.support.ray_head import free_port

MEASURES = ("resident MB", "file descriptors", "threads", "temporary files")
WARM_UP, KILLS = 0.25, 0.8  # shares of the time: before slopes are fitted, and before the endpoint is killed
CHANGE, KILL = 20.0, 30.0  # seconds between two bundles, and between two kills
TEXTS = sample_texts(200)
HEAD = b"POST /analyze HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"


@contextmanager
def child(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """This program in a process of its own, with temporary files of its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.experiments.soak", *arguments]
    with (folder / "log.txt").open("ab") as log:
        environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def sample(process: subprocess.Popen[bytes], folder: Path) -> tuple[float, ...]:
    """MEASURES of a process; its temporary files."""
    known = psutil.Process(process.pid)
    temporary = sum(len(files) for _, _, files in os.walk(folder / "tmp"))
    return known.memory_info().rss / 1e6, known.num_fds(), known.num_threads(), temporary


def report(samples: list[tuple[float, ...]], svg: Path | None) -> None:
    """Prints the slopes, and draws the samples: (seconds, *MEASURES)."""
    table = np.array(samples)
    warm = table[table[:, 0] >= WARM_UP * table[-1, 0]]
    hours = (warm[:, 0] - warm[:, 0].mean()) / 3600
    quarter = max(1, len(warm) // 4)
    for at, name in enumerate(MEASURES, 1):
        slope = (hours @ warm[:, at]) / (hours @ hours)
        rest = warm[:, at] - warm[:, at].mean() - slope * hours
        error = np.sqrt(rest @ rest / max(1, len(warm) - 2) / (hours @ hours))
        first, last = warm[:quarter, at].mean(), warm[-quarter:, at].mean()
        print(f"{name}: {first:,.1f} at first, {last:,.1f} at last; {slope:+,.1f} per hour, +- {2 * error:,.1f}")
    if svg:
        svg.write_text(drawn(table), encoding="utf-8")


def drawn(table: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> str:
    """One small line per measure, from nothing to its most."""
    parts = []
    for at, name in enumerate(MEASURES, 1):
        top, left = 20 + 60 * (at - 1), 150
        most = max(1.0, table[:, at].max())
        places = zip(table[:, 0] / table[-1, 0] * 400 + left, top + 40 - table[:, at] / most * 40, strict=True)
        line = " ".join(f"{x:.0f},{y:.1f}" for x, y in places)
        parts.append(f'<text x="4" y="{top + 24}">{name}</text><text x="{left + 406}" y="{top + 8}">{most:,.0f}</text>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="#36c"/>')
        parts.append(f'<path d="M{left} {top + 40}h400" stroke="#999"/>')
    end = f'<text x="150" y="270">0</text><text x="510" y="270">{table[-1, 0] / 60:.0f} min</text>'
    style = 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 610 280" font-family="sans-serif" font-size="12"'
    return f"<svg {style}>{''.join(parts)}{end}</svg>\n"


def endpoint(folder: Path, minutes: float, svg: Path | None) -> None:
    make_bundle(folder / "a")
    make_bundle(folder / "b", score_form="joint")
    analyzers = [Analyzer(str(folder / name), device="cpu") for name in ("a", "b")]
    right = {text: [plain(analyzer([text])[0]) for analyzer in analyzers] for text in TEXTS}
    del analyzers
    port, over, answers = free_port(), threading.Event(), Counter[str]()
    url, began, end = f"http://127.0.0.1:{port}", time.monotonic(), 60 * minutes
    samples: list[tuple[float, ...]] = []
    threads = [threading.Thread(target=ask, args=(url, over, answers, right, size)) for size in (1, 1, 40)]
    threads += [threading.Thread(target=disturb, args=(url, port, over, answers, seed)) for seed in range(2)]
    while (now := time.monotonic() - began) < end:
        until = KILLS * end if now < KILLS * end else min(end, now + KILL)
        with child("serve", "--folder", str(folder), "--port", str(port), folder=folder) as process:
            while not samples and not ready(url):  # the clock begins once it answers
                began = time.monotonic()
                time.sleep(1)
            for thread in threads if not samples else ():
                thread.start()
            while (now := time.monotonic() - began) < until:
                assert process.poll() is None, f"it ended; {folder}/log.txt"
                if until == KILLS * end:
                    samples.append((now, *sample(process, folder)))
                time.sleep(3)
            if now >= end:  # what was asked is still answered
                over.set()
                for thread in threads:
                    thread.join()
        answers["kills"] += 1
    print(dict(answers))
    report(samples, svg)


def ready(url: str) -> bool:
    try:
        return bool(requests.get(f"{url}/ready", timeout=5).ok)
    except requests.RequestException:
        return False


def serve(folder: Path, port: int) -> None:
    """A replica behind the door, whose bundle changes every CHANGE seconds."""
    from ray_app.serving import http_app
    from ray_app.serving.deployments import InProcessService, Replica
    from ray_app.serving.hosts import allowed_hosts
    from ray_app.serving.process import open_door
    from ray_app.serving.replica_engine import ReplicaOptions, stage_groups

    front = open_door("127.0.0.1", port, allowed_hosts("127.0.0.1", (), token=False))
    front.upstream = ("127.0.0.1", free_port())
    options = ReplicaOptions(stages=stage_groups("auto", fused=True)[0], last=True, device="cpu", threads=1)
    served = Replica(options, 5.0)

    async def change() -> None:
        for turn in range(1 << 30):
            await asyncio.sleep(CHANGE)
            await served.reconfigure({"bundle": str(folder / "ab"[(turn + 1) % 2])})

    async def run() -> None:
        await served.reconfigure({"bundle": str(folder / "a")})
        app = http_app.build_app(InProcessService(served), http_app.Limits(hosts=front.hosts))
        server = uvicorn.Server(uvicorn.Config(app, port=front.upstream[1], log_level="error"))
        front.ready = True
        await asyncio.gather(server.serve(), change())

    asyncio.run(run())


def plain(row: Any) -> list[tuple[object, ...]]:
    """What an answer says: keywords, scores and words."""
    findings = row["findings"]
    return [(one["keyword"], one["score"], (one["highlight"] or {}).get("word")) for one in findings]


def ask(
    url: str,
    over: threading.Event,
    answers: Counter[str],
    right: dict[str, list[list[tuple[object, ...]]]],
    size: int,
) -> None:
    """Asks for `size` reviews at a time with the shipped client, which goes on through kills."""
    client, chance = Client(url, token="", patience=300), random.Random(size)
    while not over.is_set():
        texts = chance.sample(TEXTS, size)
        try:
            rows = client(texts).analyses.to_pylist()
        except UserError as error:
            answers[f"failed: {str(error)[:60]}"] += 1
            continue
        answers["reviews"] += size
        answers["lost"] += size - len(rows)
        for text, row in zip(texts, rows, strict=False):
            answers["wrong"] += plain(row) not in right[text]
        time.sleep(chance.uniform(0, 0.3))


def disturb(url: str, port: int, over: threading.Event, answers: Counter[str], seed: int) -> None:
    """What does not belong: bodies that are refused, clients that are slow or say nothing."""
    chance = random.Random(seed)
    bodies = [b"", b"{", b'{"reviews": 5}', b'{"reviews": [' + b'"a",' * 5_000 + b'"a"]}', b"\xff" * 1_000]
    while not over.is_set():
        with contextlib.suppress(OSError, requests.RequestException):
            if chance.random() < 0.5:
                code = requests.post(f"{url}/analyze", data=chance.choice(bodies), timeout=30).status_code
                answers["5xx to malformed bodies"] += code >= 500 and code != 503
            else:
                with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
                    slow.sendall(HEAD[: chance.randint(0, len(HEAD))])
                    over.wait(chance.uniform(0, 15))
            answers["disturbed"] += 1
        over.wait(chance.uniform(0, 0.5))


def catalog(folder: Path, minutes: float, svg: Path | None) -> None:
    make_bundle(folder / "a", score_form="joint")
    samples: list[tuple[float, ...]] = []
    began = time.monotonic()
    with child("runs", "--folder", str(folder), folder=folder) as process:
        while (now := time.monotonic() - began) < 60 * minutes:
            assert process.poll() is None, f"it ended; {folder}/log.txt"
            samples.append((now, *sample(process, folder)))
            time.sleep(3)
    print((folder / "runs.json").read_text(encoding="utf-8"))
    report(samples, svg)


def runs(folder: Path) -> None:
    """Runs without end; counts them, and rows that are lost or other than in the first run."""
    import pyarrow as pa

    from ray_app.catalog import analyze, verify

    rows = 40
    (folder / "reviews").mkdir(exist_ok=True)
    storage.write_parquet(
        str(folder / "reviews" / "a.parquet"), pa.table({"id": [str(n) for n in range(rows)], "text": TEXTS[:rows]})
    )
    counts, first = Counter[str](), None
    for number in range(1 << 30):
        out = str(folder / f"out{number}")
        settings = {"placement": "here", "device": "cpu", "unit_rows": 10}
        config = analyze.Config(input=str(folder / "reviews"), bundle=str(folder / "a"), output=out, **settings)  # type: ignore[arg-type]
        counts["failed"] += analyze.run(config) != 0 or verify.run(verify.Config(output=out)) != 0
        found = storage.read_parquet(f"{out}/data").sort_by("review_id").drop_columns(["keyword_probabilities"])
        first = first if first is not None else found
        counts.update(runs=1, rows=rows, lost=rows - len(found), other=not found.equals(first))
        shutil.rmtree(out)
        storage.write_json(str(folder / "runs.json"), counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("endpoint", "catalog", "serve", "runs"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--svg", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="nunchi-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    if options.what == "serve":
        serve(folder, options.port)
    elif options.what == "runs":
        runs(folder)
    else:
        (endpoint if options.what == "endpoint" else catalog)(folder, options.minutes, options.svg)


if __name__ == "__main__":
    main()
