"""What reading a catalog costs: `python -m tests.experiments.any_input NAME --reviews nsmc.parquet`.

    groups      1,000,000 rows in one row group of 1,048,576 against groups of 2,000, on disk and on S3 (moto)
    csv         the reviews (--rows: the first of them) as cp949 CSV against the same as Parquet, analyzed without
                highlights: same analyses, rows/s, memory
    tiny        300 files of 3 rows against one of 900, in one process, start-up and the loading of models taken off
    drift       12 monthly files with ten kinds of drift at once
    kills       kill -9 of the driver, 10 times, on CSV and on shared units

Each reading runs in a process of its own, so that its peak memory is its own. nsmc.parquet: see docs/benchmarks.md.
"""

import argparse
import contextlib
import csv as csv_module
import io
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog import verify
from ray_app.data import reviews
from ray_app.storage import s3
from tests.support.paths import ROOT

ROWS, GROUP, UNIT = 1_000_000, 1_048_576, 2_000


def read(uri: str, keep: str = "") -> None:
    """Plans and reads a whole catalog; prints its figures as JSON."""
    fetched = [0, 0]
    fetch = s3.Reader._fetch

    def counted(self: s3.Reader, start: int, stop: int) -> bytes:
        fetched[0] += stop - start
        fetched[1] += 1
        return fetch(self, start, stop)

    s3.Reader._fetch = counted  # type: ignore[method-assign]
    began = time.monotonic()
    plan = reviews.plan(uri, "", tuple(filter(None, keep.split(","))), UNIT, "")
    planned = time.monotonic() - began
    rows = rejected = 0
    for reading in reviews.readings(plan.units):
        for unit in reviews.read_units(reading, plan.columns):
            rows += len(unit.accepted) if unit.accepted is not None else 0
            rejected += sum(unit.rejected["rows"].to_pylist())
    seconds = time.monotonic() - began
    figures = {"rows": rows, "rejected": rejected, "units": len(plan.units), "planned_s": round(planned, 2)}
    figures |= {
        "seconds": round(seconds, 2),
        "cpu_s": round(time.process_time(), 2),
        "rows_per_s": round(rows / seconds),
    }
    status = Path("/proc/self/status").read_text(encoding="ascii")  # this program's own peak, not its parent's
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1e3
    figures |= {"peak_mb": round(peak), "mb_read": fetched[0] // 10**6}
    print(json.dumps({**figures, "requests": fetched[1]}), flush=True)


def measured(uri: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.experiments.any_input", "read", "--uri", uri, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def repeated(source: str, rows: int) -> pa.Table:
    """Real reviews, repeated to so many rows under ids of their own."""
    texts = pq.read_table(source, columns=["text"])["text"].cast(pa.string())
    whole = pa.concat_tables([pa.table({"text": texts})] * -(-rows // len(texts))).slice(0, rows)
    return whole.add_column(0, "id", pa.array([str(i) for i in range(rows)])).combine_chunks()


def groups(folder: Path, source: str) -> None:
    from moto.server import ThreadedMotoServer

    table = repeated(source, ROWS)
    for name, size in (("one", GROUP), ("small", UNIT)):
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "a.parquet", row_group_size=size)
    logging.getLogger("werkzeug").setLevel("ERROR")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1"}
    import boto3

    boto3.client("s3").create_bucket(Bucket="shop")
    for name in ("one", "small"):
        storage.upload(str(folder / name), f"s3://shop/{name}")
        size = (folder / name / "a.parquet").stat().st_size // 10**6
        for uri in (str(folder / name), f"s3://shop/{name}"):
            print(f"{uri} ({size} MB):", measured(uri), flush=True)
    server.stop()


def csv(folder: Path, source: str, rows: int) -> None:
    """The first `rows` reviews (0: all) as cp949 CSV and as Parquet: read, analyzed without highlights, compared."""
    from tests.support.bundles import make_bundle

    whole = repeated(source, rows or len(pq.read_table(source, columns=["text"])))
    table = whole.filter(pa.array([_in_cp949(text or "") for text in whole["text"].to_pylist()]))
    print(f"{len(table):,} of {len(whole):,} rows are texts that cp949 holds", flush=True)
    for name in ("csv", "parquet"):
        (folder / name).mkdir()
    pq.write_table(table, folder / "parquet" / "a.parquet", row_group_size=50_000)
    table.to_pandas().to_csv(folder / "csv" / "a.csv", index=False, encoding="cp949")
    for name in ("csv", "parquet"):
        print(name, measured(str(folder / name)), flush=True)
    make_bundle(folder / "bundle")
    for name in ("csv", "parquet"):
        print(name, "analyzed:", measured(str(folder / name), "--bundle", str(folder / "bundle")), flush=True)
    for what, columns in (("data", "*"), ("rejected", "review_id, value, reason, row")):
        tables = [f"SELECT {columns} FROM '{folder / name}-here/{what}/**/*.parquet'" for name in ("csv", "parquet")]
        queries = (*tables, " INTERSECT ALL ".join(tables))  # row by row, every column
        found = Path(f"{folder / 'csv'}-here/{what}").exists()  # without rejects there is no folder of them
        counts = [_count(query) if found else 0 for query in queries]
        print("{what}: {:,} rows of CSV, {:,} of Parquet, {:,} the same".format(*counts, what=what), flush=True)


def _count(query: str) -> int:
    import duckdb

    count: int = duckdb.connect().execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
    return count


def _in_cp949(text: str) -> bool:
    try:
        text.encode("cp949")
    except UnicodeEncodeError:
        return False
    return True


def job(folder: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
    """`jobs.analyze` over folder/name into folder/name-out."""
    log = (folder / "log.txt").open("ab")
    paths = ["--input", str(folder / name), "--bundle", str(folder / "bundle"), "--output", f"{folder / name}-out"]
    command = [sys.executable, "-m", "jobs.analyze", *paths, "--device", "cpu", "--workers", "2"]
    return subprocess.Popen([*command, "--cpus-per-worker", "0.5", *options], cwd=ROOT, stdout=log, stderr=log)


def analyze_here(uri: str, bundle: str) -> None:
    """Analyzes a catalog in this process; prints its figures as JSON."""
    figures = analyzed(uri, bundle, "off", {})
    rows = storage.read_json(f"{uri}-here/_run.json")["rows_in"]
    figures |= {"rows_per_s": rows / figures["seconds"], "rows_per_cpu_s": rows / figures["cpu_s"]}
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1e3
    rounded = {name: round(figure, 2) for name, figure in figures.items()}
    print(json.dumps({**rounded, "peak_mb": round(peak)}), flush=True)


def analyzed(uri: str, bundle: str, highlights: str, models: dict[str, Any]) -> dict[str, float]:
    """Analyzes a catalog in this process: seconds, and user and system CPU seconds, without those of loading models.

    `models` are taken from the call before, if there was one.
    """
    from ray_app.catalog import analyze
    from ray_app.catalog.pipeline import Lane, StageWorker

    load, loading = StageWorker._load, [0.0, 0.0]

    def timed(self: StageWorker, config: analyze.Config, threads: int, last: bool) -> list[Lane]:
        before = time.monotonic(), time.process_time()
        if not models:
            models["lanes"] = load(self, config, threads, last)
        loading[:] = time.monotonic() - before[0], time.process_time() - before[1]
        lanes: list[Lane] = models["lanes"]
        return lanes

    out = f"{uri}-here"
    storage.remove(out)
    config = analyze.Config(
        input=uri,
        bundle=bundle,
        output=out,
        placement="here",
        highlights=highlights,
        device="cpu",
        progress_seconds=3600,
    )
    StageWorker._load = timed  # type: ignore[method-assign]
    try:
        began, cpu = time.monotonic(), time.process_time()
        assert analyze.run(config) == 0
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    finally:
        StageWorker._load = load  # type: ignore[method-assign]
    return {"seconds": seconds - loading[0], "cpu_s": cpu - loading[1], "loading_s": loading[0]}


def tiny(folder: Path, ways: str, rounds: int) -> None:
    """Interleaved rounds of 3 rows (what starting costs), 900 rows in one file and 300 files of 3 rows; medians.

    `ways`: of finding highlights.
    """
    from tests.support.bundles import make_bundle, sample_texts

    make_bundle(folder / "bundle")
    texts = sample_texts(900)
    names = ("start", "one", "many")
    for name, files, rows in zip(names, (1, 1, 300), (3, 900, 900), strict=True):
        (folder / name).mkdir()
        for i in range(files):
            ids = range(i * rows // files, (i + 1) * rows // files)
            table = pa.table({"id": [str(n) for n in ids], "text": [texts[n] for n in ids]})
            pq.write_table(table, folder / name / f"{i:03d}.parquet")
    for highlights in ways.split(","):
        models: dict[str, Any] = {}
        analyzed(str(folder / "start"), str(folder / "bundle"), highlights, models)  # imports, loads
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                with contextlib.redirect_stdout(io.StringIO()):
                    runs[name].append(analyzed(str(folder / name), str(folder / "bundle"), highlights, models))
        for measure in ("cpu_s", "seconds"):
            middle = {name: statistics.median(run[measure] for run in runs[name]) for name in names}
            ratio = (middle["many"] - middle["start"]) / (middle["one"] - middle["start"])
            shown = ", ".join(f"{name} {middle[name]:.2f}" for name in names)
            print(f"--highlights {highlights}, {measure}: {shown}; many / one without start {ratio:.2f}", flush=True)


def drift(folder: Path, source: str) -> None:
    """Ten kinds of drift in one column each, all of them over twelve files."""
    moment = datetime(2026, 1, 1, 9)
    kinds: dict[str, list[Any]] = {
        "int_float": [pa.array([5, 4]), pa.array([4.5, None])],
        "width": [pa.array([1, 2], pa.int32()), pa.array([3 * 10**10, 1])],
        "decimal": [pa.array([Decimal("1.5"), None]), pa.array([7, 8])],
        "unit": [pa.array([moment] * 2, pa.timestamp("ms")), pa.array([moment] * 2, pa.timestamp("ns"))],
        "zone": [pa.array([moment] * 2, pa.timestamp("us", "UTC")), pa.array([moment] * 2, pa.timestamp("us"))],
        "null": [pa.nulls(2), pa.array(["A", "B"])],
        "absent": [None, pa.array([1, 2])],
        "words": [pa.array([1, 2]), pa.array(["x", "y"])],
        "encoding": [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "d"], pa.string_view())],
        "nested": [pa.array([{"a": 1}, None]), pa.array([{"a": 0.5, "b": "x"}, {"a": None, "b": None}])],
    }
    (folder / "in").mkdir()
    for month in range(12):
        columns = {"review_id": [f"{month}a", f"{month}b"], "text": ["배송이 빨라요", "색이 예뻐요"]}
        columns |= {name: values[month % 2] for name, values in kinds.items() if values[month % 2] is not None}
        pq.write_table(pa.table(columns), folder / "in" / f"2026-{month + 1:02d}.parquet")
    plan = reviews.plan(str(folder / "in"), "", tuple(kinds), UNIT, "")
    units = list(reviews.read_units(plan.units, plan.columns))
    accepted = sum(len(unit.accepted) for unit in units if unit.accepted is not None)
    print(f"{plan.rows} rows: {accepted} accepted, {sum(len(unit.rejected) for unit in units)} rejected")
    print("\n".join(plan.notes))


def kills(folder: Path, source: str, times: int = 10) -> None:
    from tests.support.bundles import make_bundle, sample_texts

    make_bundle(folder / "bundle")
    texts, chance = sample_texts(1_000), random.Random(7)
    (folder / "in").mkdir()
    reviews_in = [(f"c{i}", f"{texts[i % 1_000]}\n{i}") for i in range(3_000)]
    with (folder / "in" / "a.csv").open("w", encoding="cp949", errors="ignore", newline="") as file:
        writer = csv_module.writer(file)
        writer.writerows([("리뷰번호", "리뷰내용"), *reviews_in])
    for i in range(200):
        table = pa.table({"id": [f"t{i}-{n}" for n in range(3)], "text": texts[:3]})
        pq.write_table(table, folder / "in" / f"t{i:03d}.parquet")
    for kill in range(times):
        process = job(folder, "in", "--unit-rows", "60", "--highlights", "off")
        before = units = len(list(folder.glob("in-out/_units/*.json")))
        while kill % 3 and process.poll() is None and units == before:
            time.sleep(0.05)
            units = len(list(folder.glob("in-out/_units/*.json")))
        time.sleep(chance.uniform(0, 3 if kill % 3 else 15))
        process.kill()
        process.wait()
        print(f"kill {kill + 1}: {before} -> {len(list(folder.glob('in-out/_units/*.json')))} units", flush=True)
    print("then undisturbed: exit code", job(folder, "in", "--unit-rows", "60", "--highlights", "off").wait())
    ids = storage.read_parquet(f"{folder}/in-out/data")["review_id"].to_pylist()
    print(f"{3_600 - len(set(ids))} lost, {len(ids) - len(set(ids))} doubled")
    sys.exit(verify.run(verify.Config(output=f"{folder}/in-out")))


def main() -> None:
    """Runs one experiment in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["read", "groups", "csv", "tiny", "drift", "kills"])
    parser.add_argument("--reviews", default="nsmc.parquet")
    parser.add_argument("--uri", default="")
    parser.add_argument("--bundle", default="")
    parser.add_argument("--rows", type=int, default=0, help="of csv: reviews to take, 0 for all")
    parser.add_argument("--highlights", default="off,auto", help="of tiny: ways, with commas between them")
    parser.add_argument("--rounds", type=int, default=5, help="of tiny: rounds of which the medians are shown")
    options = parser.parse_args()
    if options.name == "read":
        analyze_here(options.uri, options.bundle) if options.bundle else read(options.uri)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.name == "csv":
            csv(folder, options.reviews, options.rows)
        elif options.name == "tiny":
            tiny(folder, options.highlights, options.rounds)
        else:
            {"groups": groups, "drift": drift, "kills": kills}[options.name](folder, options.reviews)


if __name__ == "__main__":
    main()
