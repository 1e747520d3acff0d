"""How far a catalog run scales: a billion rows on a simulated S3, and millions of tiny rows for real. Not a test.
`python -m tests.experiments.scale WHAT`:

    plan      200,000 files of 5,000 rows: listed, footers read, units cut and saved
    resume    the same plan with all units but one committed: what the next driver reads before it begins
    units     requests per unit on the workers' side, from reading it to its marker
    publish   part files become output files: requests per part file, and MB/s of the driver
    take      records per second that the driver counts
    rows      --rows tiny rows for real, on this disk, with stages that compute nothing: rows/s, the driver's memory,
              verify; in this process, or on Ray with --placement fused

Requests are counted by SimulatedS3, which sleeps never and sums what a run would have waited; CPU is this machine's.
"""

import argparse
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import progress
from ray_app.catalog import analyze, executors, manifest, planning, verify
from ray_app.catalog.catalog_run import CatalogRun
from ray_app.catalog.commit import CommitRecord
from ray_app.catalog.compaction import Publisher
from ray_app.catalog.pipeline import UnitRow, _pack, _unpack
from ray_app.catalog.progress import Progress
from ray_app.data import reviews
from ray_app.data.schema import FINDING
from ray_app.inference import bundle as bundles
from tests.support.bundles import make_bundle, sample_texts
from tests.support.simulated_s3 import Family, SimulatedS3

ROWS_PER_FILE, UNIT_ROWS = 5_000, 2_000
S3_BUSY = 0.001  # share of requests that are answered with 503


class Nothing:
    """A worker whose stages compute nothing: one finding per row, so that all that is written has its usual form."""

    def __init__(self, *_: object, **__: object) -> None:
        self.lanes = (0,)  # units under way at once

    def __call__(self, row: pa.Table) -> UnitRow:
        table = _unpack(row["accepted"][0].as_py())
        accepted = pa.array([_pack(found(table))], pa.large_binary())
        work = [json.dumps({"peak_mb": progress.peak_mb()})]
        return {**{name: row[name] for name in row.column_names}, "accepted": accepted, "work": work}


def found(table: pa.Table) -> pa.Table:
    """The table as the last stage leaves it."""
    word = {"word": "옷은", "start": 0, "end": 2, "drop": 0.5}
    finding = {"keyword": "배송", "probability": 0.9, "score": 1, "score_probabilities": [0.1] * 5}
    one = pa.array([[{**finding, "highlight": word, "opinion": word}]], pa.list_(FINDING))
    rows = pa.concat_arrays([one] * len(table)) if len(table) else one.slice(0, 0)
    columns = {
        "keyword_probabilities": pa.array([[0.5] * 15] * len(table), pa.list_(pa.float32())),
        "findings": rows,
        "truncated": pa.array([False] * len(table)),
    }
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


@contextmanager
def measured(name: str, s3: SimulatedS3, per: float = 1.0, of: str = "") -> Iterator[None]:
    """Prints CPU, simulated waits, peak memory and requests of the block."""
    s3.clear()
    began, cpu, before = time.monotonic(), time.process_time(), progress.peak_mb()
    yield
    seconds, waited = time.monotonic() - began, s3.waited()
    calls = ", ".join(
        f"{count / per:,.2f} {kind}" if of else f"{count:,} {kind}" for kind, count in s3.calls.items() if count
    )
    print(
        f"{name}: {seconds:.1f} s here ({time.process_time() - cpu:.1f} CPU) + {waited:,.0f} s of waiting for S3; "
        f"{before:,.0f} -> {progress.peak_mb():,.0f} MB at most; requests{f' per {of}' if of else ''}: {calls}",
        flush=True,
    )


def tiny(rows: int, first: int = 0) -> pa.Table:
    texts = [text[:20] for text in sample_texts(200)]
    return pa.table({"id": [str(n) for n in range(first, first + rows)], "text": [texts[n % 200] for n in range(rows)]})


def parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def config(folder: Path, where: str, **changes: Any) -> analyze.Config:
    uris = {"input": f"{where}/reviews", "bundle": str(folder / "bundle"), "output": f"{where}/out"}
    settings: dict[str, Any] = {"unit_rows": UNIT_ROWS, "device": "cpu", "highlights": "off"}
    return analyze.Config(**{**uris, **settings, **changes})


def catalog(files: int, rows: int = ROWS_PER_FILE) -> Family:
    data = parquet(tiny(rows))
    names = [f"part-{number:06d}.parquet" for number in range(files)]
    return Family("reviews/", names, lambda _: data, len(data))


def planned(folder: Path, files: int, s3: SimulatedS3) -> tuple[analyze.Config, bundles.Bundle, manifest.Run]:
    s3.families = [catalog(files)]
    settings = config(folder, "s3://shop")
    bundle = bundles.load(settings.bundle)
    with measured(f"plan {files:,} files, {files * ROWS_PER_FILE:,} rows", s3):
        run, _ = planning.begin_or_resume(settings, bundle, planning.settings_of(settings, bundle), settings.output)
    print(f"  {len(run.units):,} units")
    return settings, bundle, run


def plan(folder: Path, files: int) -> None:
    with SimulatedS3(S3_BUSY) as s3:
        planned(folder, files, s3)


def record(unit: reviews.Unit) -> CommitRecord:
    """A committed unit's record, of its usual length."""
    piece = unit.head
    work = {
        "tokens": 40_000.0,
        "seconds_keywords": 1.5,
        "seconds_scores": 1.25,
        "units computed on cpu fp32": 1,
        "peak_mb": 900.0,
    }
    parts = {
        f: {"name": f"{unit.id}-0123abcd.parquet", "rows": unit.rows, "bytes": 300_000} for f in ("data", "findings")
    }
    where = {"file": piece.file, "version": piece.version, "row_group": 0, "skip": piece.skip, "first": piece.first}
    counts = {"rows": unit.rows, "rows_in": unit.rows, "analysed": unit.rows, "rejected": 0, "findings": 2 * unit.rows}
    return {"id": unit.id, **where, **counts, "parts": parts, "work": work}  # type: ignore[typeddict-item]


def resume(folder: Path, files: int) -> None:
    with SimulatedS3(S3_BUSY) as s3:
        settings, bundle, run = planned(folder, files, s3)
        by_name = {f"{unit.id}.json": unit for unit in run.units[:-1]}

        def marker(name: str) -> bytes:
            return json.dumps(record(by_name[name])).encode()

        s3.families.append(Family("out/_units/", sorted(by_name), marker))
        ids = [unit.id for unit in run.units[:-1]]
        chunks = [ids[first : first + 400] for first in range(0, len(ids), 400)]
        bodies = dict(files_of(chunks))
        s3.families.append(Family("out/_files/", sorted(bodies), bodies.__getitem__))
        with measured(f"resume {len(ids):,} committed units in {len(bodies) // 2:,} output files", s3):
            CatalogRun(settings, bundle, planning.settings_of(settings, bundle), settings.output, "bundle")
        logged = [name for name in s3.objects if name.startswith("out/_log/")]
        with measured(f"resume once more, with {len(logged)} files of the log", s3):
            resumed = CatalogRun(settings, bundle, planning.settings_of(settings, bundle), settings.output, "bundle")
        print(f"  {len(resumed.done):,} done")


def files_of(chunks: list[list[str]]) -> Iterator[tuple[str, bytes]]:
    """What an output holds of its finished files: promises and notes, by name."""
    for number, (chunk, folder) in enumerate((chunk, folder) for chunk in chunks for folder in ("data", "findings")):
        units = {unit: f"{unit}-0123abcd.parquet" for unit in chunk}
        done = {"file": f"{folder}/part-{number:06d}.parquet", "rows": 1, "bytes": 1, "sha256": ""}
        yield f"{number:06d}.json", json.dumps({"folder": folder, "units": units}).encode()
        yield f"{number:06d}.done.json", json.dumps(done).encode()


def units(folder: Path) -> None:
    """Requests of reading, stages and commits, through the pipeline in this process with the real stages."""
    with SimulatedS3() as s3:
        settings, _, run = planned(folder, 10, s3)
        count = len(run.units)
        with measured(f"{count} units", s3, count, "unit"):
            list(executors.run_here(settings, settings.output, run.units, run.columns))


def publish() -> None:
    """Output files out of part files of 2,000 rows each."""
    table = found(tiny(UNIT_ROWS).rename_columns(["review_id", "text"]))
    part = parquet(table)
    count = (8 << 20) // len(part) + 300
    names = sorted(f"{hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()[:16]}" for n in range(count))
    with SimulatedS3() as s3:
        s3.families = [Family("out/_parts/data/", [f"{n}-0.parquet" for n in names], lambda _: part, len(part))]
        publisher = Publisher("s3://shop/out", 8 << 20)
        with measured(f"publish {count} part files of {len(part):,} bytes", s3, count, "part file"):
            for name in names:
                one: Any = {
                    "id": name,
                    "parts": {"data": {"name": f"{name}-0.parquet", "rows": UNIT_ROWS, "bytes": len(part)}},
                }
                publisher.add(one)
            publisher.finish()


def take() -> None:
    """What the driver does for a record beside publishing."""
    count = 100_000
    pieces = [
        reviews.Piece(file=f"s3://shop/reviews/{n}", version="v", row_group=0, skip=0, first=0, rows=UNIT_ROWS)
        for n in range(count)
    ]
    lines = [json.dumps(record(reviews.Unit(id=f"{n:016x}", pieces=(piece,)))) for n, piece in enumerate(pieces)]
    with SimulatedS3() as s3:
        counted, publisher = Progress(count * UNIT_ROWS, 3600), Publisher("s3://shop/out", 1 << 60)
        with measured(f"take {count:,} records", s3):
            for line in lines:
                counted.add(json.loads(line))
                publisher.add(json.loads(line))


def tiny_rows(folder: Path, rows: int, placement: str) -> None:
    """A real run with a worker that computes nothing; files of ROWS_PER_FILE rows."""
    (folder / "reviews").mkdir()
    for number in range(-(-rows // ROWS_PER_FILE)):
        pq.write_table(tiny(ROWS_PER_FILE, number * ROWS_PER_FILE), folder / "reviews" / f"{number:06d}.parquet")
    executors.Actor = executors.StageWorker = Nothing  # type: ignore[misc, assignment, attr-defined]
    settings = config(folder, str(folder), placement=placement, workers=1, cpus_per_worker=0.5)
    began, cpu, over = time.monotonic(), time.process_time(), threading.Event()
    threading.Thread(target=watch, args=(folder / "out" / "_units", over), daemon=True).start()
    code = analyze.run(settings)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    over.set()
    print(
        f"exit code {code}: {rows:,} rows in {seconds:.0f} s ({cpu:.0f} CPU here), {rows / cpu:,.0f} rows per CPU "
        f"second; peak {progress.peak_mb():,.0f} MB"
    )
    began, cpu = time.monotonic(), time.process_time()
    verified = verify.run(verify.Config(output=settings.output))
    print(f"verified: {verified}; {time.monotonic() - began:.0f} s ({time.process_time() - cpu:.0f} CPU)")


def watch(units: Path, over: threading.Event) -> None:
    """Prints the driver's memory until `over`."""
    began = time.monotonic()
    while not over.wait(30):
        megabytes = (
            int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
        )
        done = len(os.listdir(units)) if units.exists() else 0  # noqa: PTH208 (a Path for each would be memory)
        print(f"  {time.monotonic() - began:.0f} s: {done:,} units, {megabytes:,.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "resume", "units", "publish", "take", "rows"))
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--placement", choices=("here", "fused"), default="here")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="nunchi-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    make_bundle(folder / "bundle")
    what: dict[str, Callable[[], None]] = {
        "plan": lambda: plan(folder, options.files),
        "resume": lambda: resume(folder, options.files),
        "units": lambda: units(folder),
        "publish": publish,
        "take": take,
        "rows": lambda: tiny_rows(folder, options.rows, options.placement),
    }
    what[options.what]()


if __name__ == "__main__":
    main()
