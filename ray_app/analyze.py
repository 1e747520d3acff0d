"""The main job: every review of a catalog through the graph, on Ray Data.

    units -> read and validate -> stages in actor pools -> commit

In: Parquet reviews and a bundle. Out: OUT/data, OUT/rejected and OUT/_run.json (see `units.py`). A unit travels as one
row: its plan, its accepted rows and its rejects as Arrow IPC bytes, so every step sees whole units and nothing can be
lost between two of them.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from ray_app.config import UserError, check, effective, option

REJECTS_EXIT = 3  # the job is complete, but some files could not be read
SAMPLE_UNITS, SAMPLE_REVIEWS = 16, 256  # what recheck is measured on before it may start


@dataclass(frozen=True)
class Config:
    """Options of `jobs.analyze`."""

    input: str = option(
        "sample", "reviews: a Parquet file, folder or glob, local or s3://; sample = the shipped catalog", "Data"
    )
    bundle: str = option("runs/quickstart/bundle", "bundle that python -m jobs.train wrote", "Data")
    output: str = option("runs/analyses", "folder to write; must be empty", "Data")
    columns: str = option("", "column names where they are not found: review_id=NAME,text=NAME", "Data")
    keep: str = option("", "columns that pass through, separated by commas", "Data")
    limit: int = option(0, "analyse only the first so many rows, 0 for all", "Data")
    dry_run: bool = option(False, "print plan, columns, estimated time and memory; write nothing", "Data")
    highlights: str = option(
        "exact",
        "the word behind every keyword: exact; recheck lets int8 name a few words and decides among them; off skips it",
        "Analysis",
        ("exact", "recheck", "off"),
    )
    recheck_words: int = option(3, "words a keyword that recheck decides among", "Analysis")
    recheck_floor: float = option(
        0.98, "least share of highlights, on a sample of the input, that recheck must find as exact does", "Analysis"
    )
    words: str = option(
        "space",
        "what a word is: whitespace units, or kiwi's spacing for texts without spaces",
        "Analysis",
        ("space", "kiwi"),
    )
    placement: str = option("fused", "all stages in one actor, or a pool each", "Cluster", ("fused", "pools"))
    workers: int = option(0, "actors a pool, 0 for one a GPU, or one per four CPUs", "Cluster")
    cpus_per_worker: float = option(0.0, "CPUs an actor reserves and uses as threads", "Cluster")
    device: str = option("auto", "where the classifiers run", "Cluster", ("auto", "cpu", "cuda"))
    unit_rows: int = option(2_000, "rows a unit of work holds at most", "Cluster")
    progress_seconds: float = option(30.0, "seconds between progress lines where the output is no terminal", "Cluster")

    def __post_init__(self) -> None:
        check(self.unit_rows >= 1, f"--unit-rows {self.unit_rows}: at least 1")
        check(self.recheck_words >= 1, f"--recheck-words {self.recheck_words}: at least 1")
        check(0 <= self.recheck_floor <= 1, f"--recheck-floor {self.recheck_floor}: between 0 and 1")
        check(self.limit >= 0 and self.workers >= 0, "--limit, --workers: 0 or more")
        check("://" not in self.output or self.output.startswith("s3://"), f"--output {self.output}: a folder or s3://")


def run(config: Config) -> int:
    """Analyses the catalog; returns the exit code."""
    from ray_app import bundle, sample, storage, units, work

    model = bundle.load(config.bundle)
    source = str(sample.CATALOG) if config.input == "sample" else config.input
    mode = f"recheck{config.recheck_words}" if config.highlights == "recheck" else config.highlights
    fingerprint = f"{model.id}|{mode}|{config.words}"
    plan = units.plan(
        storage.absolute(source), config.columns, config.keep, config.unit_rows, fingerprint, config.limit
    )
    _announce(plan, model)
    if config.dry_run:
        _dry_run(config, plan)
        return 0
    check(storage.is_empty(config.output), f"--output {config.output}: not empty; remove it or name another folder")
    agreement = _agreement(config, plan) if config.highlights == "recheck" else {}
    began = time.monotonic()
    ledger = _Ledger(plan.rows, config.progress_seconds)
    out = storage.absolute(config.output)
    for record in _stream(config, plan, out):
        ledger.add(record)
    summary = {
        **ledger.summary(time.monotonic() - began),
        "engine": work.summary(ledger.work),
        **agreement,
        "bundle": model.id,
        "unreadable": dict(plan.unreadable),
        "config": effective(config),
    }
    check(summary["rows_in"] == plan.rows, f"{config.output}: {plan.rows - summary['rows_in']} rows were not committed")
    storage.write_json(storage.join(out, "_run.json"), summary)
    _report(summary, config.output)
    return REJECTS_EXIT if plan.unreadable else 0


def _announce(plan: Any, model: Any) -> None:
    columns = plan.columns
    print(
        f"{plan.rows:,} rows in {len(plan.units):,} units; review_id={columns.review_id} text={columns.text} "
        f"keep={','.join(columns.keep) or 'nothing'}; bundle {model.id}, {len(model.meta.thresholds)} keywords",
        flush=True,
    )
    for file, reason in plan.unreadable:
        print(f"rejected {file}: {reason}", flush=True)


def _stream(config: Config, plan: Any, out: str) -> Any:
    """Runs the pipeline; yields one ledger record a committed unit."""
    import ray.data

    from ray_app import cluster
    from ray_app.graph import stages

    cluster.start()
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None  # a block is a unit, however large its rows
    pool = _pool(config)
    rows = [{"unit": asdict(unit), "began": 0.0} for unit in plan.units]
    if not rows:
        return
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = dataset.map_batches(_Read(plan.columns), batch_size=1, batch_format="pyarrow", num_cpus=0.1)
    names = [name for name, _ in stages(config.highlights, config.words)]
    for group in [names] if config.placement == "fused" else [[name] for name in names]:
        last = group[-1] == names[-1]
        dataset = dataset.map_batches(
            _Worker, fn_constructor_args=(config, group, last), batch_size=1, batch_format="pyarrow", **pool
        )
    dataset = dataset.map_batches(_Commit(out), batch_size=1, batch_format="pyarrow", num_cpus=0.1)
    try:
        yield from dataset.iter_rows()
    except ray.exceptions.RayError as error:
        raise UserError(f"analysis failed: {cluster.cause(error)}") from error


def _pool(config: Config) -> dict[str, Any]:
    """An actor pool's size and each actor's share. Reading and writing need a share of a CPU beside the pools: a pool
    that takes every CPU would wait for itself."""
    from ray.data import ActorPoolStrategy

    from ray_app import cluster

    gpu = cluster.wants_gpu(config.device)
    pools = 1 if config.placement == "fused" else 3
    spare = cluster.cpus() - 0.5
    workers = config.workers or int(cluster.gpus() if gpu else max(1, cluster.cpus() // 4))
    cpus = config.cpus_per_worker or (1.0 if gpu else max(0.1, spare / workers / pools))
    check(
        workers * pools * cpus <= spare + 1e-6,
        f"{workers} workers x {pools} pools x {cpus:g} CPUs are more than the {spare:g} there are to share; lower "
        "--workers or --cpus-per-worker",
    )
    shape: dict[str, Any] = {
        "compute": ActorPoolStrategy(min_size=1, max_size=workers, max_tasks_in_flight_per_actor=4)
    }
    return {**shape, "num_cpus": cpus, **({"num_gpus": 1.0 / pools} if gpu else {})}


@dataclass(frozen=True)
class _Read:
    """unit -> unit, accepted rows, rejected rows."""

    columns: Any

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        from ray_app import units

        unit = units.Unit(**batch["unit"][0].as_py())
        accepted, rejected = units.read(unit, self.columns)
        return {"unit": [asdict(unit)], "accepted": [_pack(accepted)], "rejected": [_pack(rejected)], "work": ["{}"]}


class _Worker:
    """One actor of a pool: holds the classifiers and runs its stages over whole units."""

    def __init__(self, config: Config, names: list[str], last: bool) -> None:
        from ray_app import storage
        from ray_app.graph import stages
        from ray_app.parts import Parts

        threads = min(os.cpu_count() or 1, math.ceil(config.cpus_per_worker or _share()))
        self.parts = Parts(storage.absolute(config.bundle), config.device, threads, probe=True)
        graph = stages(config.highlights, config.words, config.recheck_words)
        self.stages = [make(self.parts) for name, make in graph if name in names]
        self.last = last
        self.keep_text = "text" in config.keep.split(",")

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        from ray_app.graph import assemble
        from ray_app.work import Work

        began = time.monotonic()
        work = Work(json.loads(batch["work"][0].as_py()))
        self.parts.work.clear()
        table = _unpack(batch["accepted"][0].as_py())
        if table is not None:
            for stage in self.stages:
                table = stage(table)
            table = assemble(table, self.parts.bundle, self.keep_text) if self.last else table
        work.add(**self.parts.work, stage_seconds=time.monotonic() - began)
        return {
            "unit": [batch["unit"][0].as_py()],
            "accepted": [_pack(table)],
            "rejected": [batch["rejected"][0].as_py()],
            "work": [json.dumps(work)],
        }


@dataclass(frozen=True)
class _Commit:
    """unit, analysed rows, rejected rows -> files on disk, and the ledger's record."""

    out: str

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        import pyarrow.compute as pc

        from ray_app import units

        unit = units.Unit(**batch["unit"][0].as_py())
        analysed, rejected = (_unpack(batch[name][0].as_py()) for name in ("accepted", "rejected"))
        findings = 0 if analysed is None else pc.sum(pc.list_value_length(analysed["findings"])).as_py() or 0
        work = batch["work"][0].as_py()
        record = units.commit(self.out, unit, analysed, rejected, {"findings": findings, "work": json.loads(work)})
        return {key: [record[key]] for key in ("rows_in", "analysed", "rejected", "findings")} | {"work": [work]}


class _Ledger:
    """Counts what was committed and says how it goes."""

    def __init__(self, total: int, every: float) -> None:
        import sys

        from ray_app.work import Work

        self.work = Work()
        self.total, self.every = total, 2.0 if sys.stderr.isatty() else every
        self.counts = {"rows_in": 0, "analysed": 0, "rejected": 0, "findings": 0}
        self.began = self.told = time.monotonic()
        self.first = 0.0

    def add(self, record: dict[str, Any]) -> None:
        for key in self.counts:
            self.counts[key] += record[key]
        self.work.add(**json.loads(record["work"]))
        now = time.monotonic()
        if not self.first:
            self.first, self.first_rows = now - self.began, self.counts["rows_in"]
        if now - self.told >= self.every:
            self.told = now
            speed = self.counts["rows_in"] / (now - self.began)
            left = (self.total - self.counts["rows_in"]) / speed
            print(
                f"{self.counts['rows_in']:,}/{self.total:,} rows, {speed:.0f} rows/s, {left:.0f} s left, "
                f"{self.counts['rejected']:,} rejected",
                flush=True,
            )

    def summary(self, seconds: float) -> dict[str, Any]:
        steady = (self.counts["rows_in"] - self.first_rows) / max(1e-9, seconds - self.first) if self.first else 0.0
        return {
            **self.counts,
            "seconds": round(seconds, 1),
            "rows_per_second": round(self.counts["rows_in"] / seconds, 1),
            "seconds_to_first_unit": round(self.first, 1),
            "steady_rows_per_second": round(steady, 1),
        }


def _agreement(config: Config, plan: Any) -> dict[str, Any]:
    """Measures recheck against exact on reviews from all over the input; raises UserError below the floor."""
    import ray

    from ray_app import cluster

    cluster.start()
    picked = plan.units[:: max(1, len(plan.units) // SAMPLE_UNITS)][:SAMPLE_UNITS]
    share, findings = ray.get(ray.remote(_measure).options(num_cpus=1).remote(config, picked, plan.columns))
    told = f"recheck finds {share:.1%} of {findings:,} highlights as exact does, on a sample of the input"
    check(
        share >= config.recheck_floor,
        f"--highlights recheck: {told}, below --recheck-floor {config.recheck_floor:g}; raise --recheck-words, or "
        "write --highlights exact",
    )
    print(told, flush=True)
    return {"recheck": {"agreement": round(share, 4), "findings": findings, "floor": config.recheck_floor}}


def _measure(config: Config, picked: Any, columns: Any) -> tuple[float, int]:
    from ray_app import storage, units
    from ray_app.occlusion import agreement
    from ray_app.parts import Parts

    texts: list[str] = []
    for unit in picked:
        accepted, _ = units.read(unit, columns)
        texts += accepted["text"].slice(0, SAMPLE_REVIEWS // len(picked)).to_pylist() if accepted is not None else []
    return agreement(Parts(storage.absolute(config.bundle), config.device), texts, config.words, config.recheck_words)


def _dry_run(config: Config, plan: Any) -> None:
    """Analyses a handful of rows here and scales up."""
    import resource

    from ray_app import units
    from ray_app.graph import Analyzer

    analyzer = Analyzer(config.bundle, config.device, highlights=config.highlights, words=config.words)
    accepted, rejected = units.read(plan.units[0], plan.columns) if plan.units else (None, [])
    if accepted is None or not len(accepted):
        print("the first unit holds no readable row: no estimate")
        return
    some = accepted.slice(0, 64)
    began = time.monotonic()
    analyzer.table(some)
    speed = len(some) / (time.monotonic() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"first unit: {len(accepted):,} accepted, {len(rejected):,} rejected; one worker here: {speed:.0f} rows/s, "
        f"{plan.rows / speed / 60:.1f} min for {plan.rows:,} rows, {memory:.1f} GB a worker. Nothing was written."
    )


def _report(summary: dict[str, Any], output: str) -> None:
    print(
        f"{summary['rows_in']:,} rows in = {summary['analysed']:,} analysed + {summary['rejected']:,} rejected, "
        f"{summary['findings']:,} findings, {summary['seconds']:.0f} s, {summary['rows_per_second']:.0f} rows/s; "
        f"{output}/data",
        flush=True,
    )


def _share() -> float:
    import ray

    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0))


def _pack(table: Any) -> bytes | None:
    import pyarrow as pa

    if table is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes | None) -> Any:
    import pyarrow as pa

    return None if data is None else pa.ipc.open_stream(data).read_all()
