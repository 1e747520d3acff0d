"""What a catalog job survives, measured: it is killed, fed broken input and run on faulty storage, and its output is
compared with an undisturbed run's. Not a test: each takes minutes. `python -m tests.experiments.durability WHAT`:

    driver      kill -9 of the driver, and the same command again
    actors      kill -9 of the actors during one run
    nodes       worker nodes die during a run, others join
    input       100 files: corrupt ones, bad rows, a row that raises, a row that kills
    s3          reviews, bundle and output on an S3 server that fails now and then
    plan        10 million rows in 2,000 files: planning, and planning again to resume
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.catalog import analyze, commit, executors, manifest, planning, verify
from ray_app.data.reviews import input_versions
from ray_app.inference import bundle as bundles
from tests.support.bundles import make_bundle, sample_texts
from tests.support.deadly_worker import KILLS, RAISES, Deadly
from tests.support.paths import ROOT


def main() -> None:
    what: dict[str, Callable[[Path, int], None]] = {
        "driver": driver,
        "actors": actors,
        "nodes": nodes,
        "input": broken_input,
        "s3": faulty_s3,
        "plan": plan,
        "job": job,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=what)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="nunchi-durability-"))
    what[arguments.what](folder, arguments.rows)


def prepare(folder: Path, rows: int, files: int = 8) -> None:
    """A bundle with random weights and a catalog of `rows` rows."""
    make_bundle(folder / "bundle")
    (folder / "reviews").mkdir()
    texts = sample_texts(1_000)
    for i in range(files):
        ids = range(i * rows // files, (i + 1) * rows // files)
        some = [f"{texts[n % 1_000]} {n}" for n in ids]
        table = pa.table({"id": [str(n) for n in ids], "text": some})
        pq.write_table(table, folder / "reviews" / f"{i:04d}.parquet", row_group_size=1_000)


def config(folder: Path, output: str = "out", **changes: Any) -> analyze.Config:
    settings: dict[str, Any] = {"unit_rows": 250, "device": "cpu", "workers": 2, "cpus_per_worker": 0.5, **changes}
    uris = {"input": str(folder / "reviews"), "bundle": str(folder / "bundle"), "output": str(folder / output)}
    return analyze.Config(**{**uris, **settings})


def job(folder: Path, rows: int) -> None:
    """One run, in this process: what the others start and kill."""
    sys.exit(analyze.run(config(folder)))


def start(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.experiments.durability", "job", "--folder", str(folder)]
    log = (folder / "log.txt").open("ab")
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **environment})


def fingerprint(folder: Path, output: str = "out") -> tuple[int, int, str]:
    """Rows, distinct ids, and a hash over all rows in the order of their ids."""
    rows = storage.read_parquet(str(folder / output / "data")).sort_by("review_id")
    content = hashlib.sha256(json.dumps(rows.to_pylist(), ensure_ascii=False).encode()).hexdigest()[:12]
    return len(rows), len(set(rows["review_id"].to_pylist())), content


def compare(folder: Path, rows: int) -> None:
    """Compares the disturbed output with that of an undisturbed run in this process; exits 1 where they differ."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    verified = verify.run(verify.Config(output=str(folder / "out")))
    analyze.run(config(folder, "calm", placement="here"))
    disturbed, calm = fingerprint(folder), fingerprint(folder, "calm")
    lost, doubled = rows - disturbed[1], disturbed[0] - disturbed[1]
    print(
        f"{rows:,} rows: {lost} lost, {doubled} doubled; equal to an undisturbed run: {disturbed == calm}; {verified=}"
    )
    sys.exit(bool(lost or doubled or disturbed != calm or verified))


def committed(folder: Path) -> int:
    return len(list((folder / "out" / "_units").glob("*.json")))


def driver(folder: Path, rows: int, kills: int = 10) -> None:
    prepare(folder, rows)
    chance = random.Random(7)
    for kill in range(kills):
        process, before, began = start(folder), committed(folder), time.monotonic()
        while kill % 3 and process.poll() is None and committed(folder) == before:
            time.sleep(0.05)  # two of three times it dies at work, else while it starts or soon after
        time.sleep(chance.uniform(0, 3 if kill % 3 else 15))
        if process.poll() is not None:
            print(f"kill {kill + 1}: the run ended before", flush=True)
            break
        process.kill()
        process.wait()
        seconds = time.monotonic() - began
        print(
            f"kill {kill + 1}: after {seconds:.1f} s, {before} -> {committed(folder)} of {rows // 250} units",
            flush=True,
        )
    print("then undisturbed: exit code", start(folder).wait(), flush=True)
    compare(folder, rows)


def actors(folder: Path, rows: int, kills: int = 10) -> None:
    prepare(folder, rows)
    process = start(folder)
    chance, done, before = random.Random(7), 0, 0
    while done < kills and process.poll() is None:
        while process.poll() is None and committed(folder) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 3))
        before = committed(folder)
        workers = [p for p in psutil.Process(process.pid).children(recursive=True) if _is_pool(p)]
        if workers:
            victim = chance.choice(workers)
            print(f"kill {(done := done + 1)}: {victim.pid}, {committed(folder)} of {rows // 250} units", flush=True)
            victim.kill()
    print("exit code", process.wait(), flush=True)
    compare(folder, rows)


def _is_pool(process: psutil.Process) -> bool:
    try:
        return "MapBatches(Actor)" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def nodes(folder: Path, rows: int, kills: int = 5) -> None:
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = str(ROOT)
    prepare(folder, rows)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    workers = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    code: list[int] = []
    run = threading.Thread(target=lambda: code.append(analyze.run(config(folder))))
    run.start()
    chance, done, before = random.Random(7), 0, 0
    while done < kills and run.is_alive():
        while run.is_alive() and committed(folder) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 4))
        if run.is_alive():
            before = committed(folder)
            victim = workers.pop(chance.randrange(len(workers)))
            print(f"kill {(done := done + 1)}: a node, {committed(folder)} of {rows // 250} units", flush=True)
            cluster.remove_node(victim, allow_graceful=False)
            workers.append(cluster.add_node(num_cpus=1))
    run.join()
    print("exit code", code, flush=True)
    ray.shutdown()
    cluster.shutdown()
    compare(folder, rows)


def broken_input(folder: Path, rows: int) -> None:
    """100 files of a two-hundredth of the rows each."""
    prepare(folder, rows, files=100)
    files = sorted((folder / "reviews").glob("*.parquet"))
    for file in files[:3]:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
    bad: list[Any] = [None, "", " ", "\u200b"]
    for i, file in enumerate(files[10:30]):
        _replace(file, i, bad[i % 4])
    _replace(files[40], 5, RAISES)
    _replace(files[50], 7, KILLS)
    executors.Actor = Deadly  # type: ignore[misc]
    began = time.monotonic()
    code = analyze.run(config(folder))
    run = storage.read_json(str(folder / "out" / "_run.json"))
    readable = rows * 97 // 100
    rejects = storage.read_parquet(str(folder / "out" / "rejected")).to_pylist()
    print(f"exit code {code} after {time.monotonic() - began:.0f} s; {run['rows_in']:,} of {readable:,} readable rows")
    for reason in sorted({row["reason"][:60] for row in rejects}):
        print(f"  {sum(row['reason'][:60] == reason for row in rejects)} x {reason}")
    verified = verify.run(verify.Config(output=str(folder / "out")))
    total, distinct, _ = fingerprint(folder)
    sys.exit(not (code == 3 and total == distinct == readable - 22 and len(rejects) == 25 and verified == 0))


def _replace(file: Path, row: int, text: str | None) -> None:
    table = pq.read_table(file)
    texts = table["text"].to_pylist()
    texts[row] = text
    pq.write_table(table.set_column(1, "text", pa.array(texts, pa.string())), file, row_group_size=1_000)


def faulty_s3(folder: Path, rows: int, share: float = 0.05) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    from tests.support.faulty_s3 import FaultyS3

    prepare(folder, rows)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.resource("s3", endpoint_url=url).create_bucket(Bucket="shop")
    os.environ["AWS_ENDPOINT_URL"] = url
    storage.upload(str(folder / "reviews"), "s3://shop/reviews")
    storage.upload(str(folder / "bundle"), "s3://shop/bundle", last="bundle.json")
    seconds = {}
    for name, faults in (("calm", 0.0), ("faulty", share)):
        with FaultyS3(url, share=faults, seed=7) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
            command = [
                sys.executable,
                "-m",
                "jobs.analyze",
                "--input",
                "s3://shop/reviews",
                "--bundle",
                "s3://shop/bundle",
            ]
            options = ["--output", f"s3://shop/{name}", "--unit-rows", "250", "--device", "cpu", "--placement", "fused"]
            began = time.monotonic()
            code = subprocess.run([*command, *options], cwd=ROOT, check=False).returncode
            seconds[name] = time.monotonic() - began
            print(f"{name}: exit code {code}, {seconds[name]:.0f} s", flush=True)
    os.environ["AWS_ENDPOINT_URL"] = url
    outputs = [storage.read_parquet(f"s3://shop/{name}/data").sort_by("review_id") for name in seconds]
    equal = outputs[0].equals(outputs[1])
    slower = seconds["faulty"] / seconds["calm"]
    print(f"{len(outputs[1]):,} rows, equal: {equal}; time x {slower:.2f} at {share:.0%} faults")
    sys.exit(not (equal and len(outputs[1]) == rows))


def plan(folder: Path, rows: int) -> None:
    """Tiny rows: what counts is how many files, row groups and units there are."""
    make_bundle(folder / "bundle")
    for files in (200, 2_000):
        reviews = folder / f"reviews{files}"
        reviews.mkdir()
        table = pa.table({"id": list(range(5_000)), "text": ["굿"] * 5_000})
        for i in range(files):
            pq.write_table(table, reviews / f"{i:05d}.parquet", row_group_size=2_500)
        settings = config(folder, f"out{files}", input=str(reviews), unit_rows=2_000)
        bundle = bundles.load(settings.bundle)
        out = str(folder / f"out{files}")
        began = time.monotonic()
        run, _ = planning.begin_or_resume(settings, bundle, planning.settings_of(settings, bundle), out)
        planned = time.monotonic() - began
        for unit in run.units:  # as left by a run that was stopped at the last unit
            record = {"id": unit.id, "rows_in": unit.rows, "analysed": unit.rows, "rejected": 0, "findings": 0}
            storage.create(f"{out}/_units/{unit.id}.json", json.dumps({**record, "parts": {}, "work": {}}).encode())
        began = time.monotonic()
        again = manifest.load(out)
        assert again is not None
        done = {record["id"] for record, _ in commit.committed(out)}
        manifest.unchanged(again, input_versions(str(reviews)), done)
        resumed = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(
            f"{files * 5_000:,} rows in {files:,} files, {len(run.units):,} units: planned in {planned:.1f} s, "
            f"read again in {resumed:.1f} s, peak {memory:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
