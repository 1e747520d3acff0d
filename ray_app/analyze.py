"""The main job: every review of a catalog through the graph, on Ray Data.

    units -> read and validate -> stages in actor pools -> commit

In: Parquet reviews and a bundle. Out: OUT/data, OUT/rejected and OUT/_run.json (see `units.py`). The steps a unit goes
through are `pipeline.py`'s; here is where they run.
"""

import math
import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

from ray_app.config import UserError, check, effective, first_line, option

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
    embeddings: bool = option(False, "keep the keyword encoder's vector of every review (`embedding`)", "Analysis")
    placement: str = option(
        "fused",
        "all stages in one actor (fused), a pool each (pools), or in this process without Ray (here)",
        "Cluster",
        ("fused", "pools", "here"),
    )
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
    from ray_app import bundle, storage, units
    from ray_app.pipeline import Ledger

    model = bundle.load(config.bundle)
    mode = f"recheck{config.recheck_words}" if config.highlights == "recheck" else config.highlights
    fingerprint = f"{model.id}|{mode}|{config.words}{'|embeddings' if config.embeddings else ''}"
    plan = units.plan(
        units.source(config.input), config.columns, config.keep, config.unit_rows, fingerprint, config.limit
    )
    _announce(plan, model)
    if config.dry_run:
        _dry_run(config, plan)
        return 0
    check(storage.is_empty(config.output), f"--output {config.output}: not empty; remove it or name another folder")
    agreement = _agreement(config, plan) if config.highlights == "recheck" else {}
    began = time.monotonic()
    ledger = Ledger(plan.rows, config.progress_seconds)
    out = storage.absolute(config.output)
    for record in (_here if config.placement == "here" else _stream)(config, plan, out):
        ledger.add(record)
    summary = {
        **ledger.summary(time.monotonic() - began),
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
    from ray_app.pipeline import Commit, Read, Worker

    cluster.start()
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None  # a block is a unit, however large its rows
    pool = _pool(config)
    threads = math.ceil(pool["num_cpus"])
    rows = [{"unit": asdict(unit)} for unit in plan.units]
    if not rows:
        return
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = dataset.map_batches(Read(plan.columns), batch_size=1, batch_format="pyarrow", num_cpus=0.1)
    names = [name for name, _ in stages(config.highlights, config.words)]
    for group in [names] if config.placement == "fused" else [[name] for name in names]:
        last = group[-1] == names[-1]
        dataset = dataset.map_batches(
            Worker, fn_constructor_args=(config, group, last, threads), batch_size=1, batch_format="pyarrow", **pool
        )
    dataset = dataset.map_batches(Commit(out), batch_size=1, batch_format="pyarrow", num_cpus=0.1)
    try:
        yield from dataset.iter_rows()
    except ray.exceptions.RayError as error:
        raise UserError(f"analysis failed: {cluster.cause(error)}") from error


def _here(config: Config, plan: Any, out: str) -> Any:
    """The same steps one after the other in this process."""
    import pyarrow as pa

    from ray_app.graph import stages
    from ray_app.pipeline import Commit, Read, Worker

    names = [name for name, _ in stages(config.highlights, config.words)]
    steps = (Read(plan.columns), Worker(config, names, last=True, threads=0), Commit(out))
    for unit in plan.units:
        batch: dict[str, list[Any]] = {"unit": [asdict(unit)]}
        for step in steps:
            batch = step({name: pa.array(column) for name, column in batch.items()})
        yield {name: column[0] for name, column in batch.items()}


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


def _agreement(config: Config, plan: Any) -> dict[str, Any]:
    """Measures recheck against exact on reviews from all over the input; raises UserError below the floor."""
    share, findings = (_measure if config.placement == "here" else _measure_on_ray)(config, plan.units, plan.columns)
    told = f"recheck finds {share:.1%} of {findings:,} highlights as exact does, on a sample of the input"
    check(
        share >= config.recheck_floor,
        f"--highlights recheck: {told}, below --recheck-floor {config.recheck_floor:g}; raise --recheck-words, or "
        "write --highlights exact",
    )
    print(told, flush=True)
    return {"recheck": {"agreement": round(share, 4), "findings": findings, "floor": config.recheck_floor}}


def _measure_on_ray(config: Config, all_units: Any, columns: Any) -> tuple[float, int]:
    """In a task, so that its memory is given back before the run."""
    import ray

    from ray_app import cluster
    from ray_app.parts import NO_RECHECK

    cluster.start()
    check(not cluster.wants_gpu(config.device), NO_RECHECK)
    try:
        found: tuple[float, int] = ray.get(ray.remote(_measure).options(num_cpus=1).remote(config, all_units, columns))
    except ray.exceptions.RayTaskError as error:
        raise UserError(first_line(error.cause)) from None
    return found


def _measure(config: Config, all_units: Any, columns: Any) -> tuple[float, int]:
    from ray_app import storage
    from ray_app.occlusion import agreement
    from ray_app.parts import Parts

    parts = Parts(storage.absolute(config.bundle), config.device)
    return agreement(parts, sampled(all_units, columns), config.words, config.recheck_words)


def sampled(all_units: Any, columns: Any) -> list[str]:
    """Up to SAMPLE_REVIEWS accepted texts, evenly out of SAMPLE_UNITS units from the first to the last."""
    import numpy as np

    from ray_app import units

    texts: list[str] = []
    picked: Any = np.unique(np.linspace(0, len(all_units) - 1, SAMPLE_UNITS).astype(int)) if all_units else ()
    for i in picked:
        accepted, _ = units.read(all_units[i], columns)
        if accepted is not None and len(accepted):
            rows = np.unique(np.linspace(0, len(accepted) - 1, SAMPLE_REVIEWS // len(picked)).astype(int))
            texts += accepted["text"].take(rows).to_pylist()
    return texts


def _dry_run(config: Config, plan: Any) -> None:
    """Analyses a handful of rows here and scales up."""
    from ray_app import units
    from ray_app.graph import Analyzer

    analyzer = Analyzer(config.bundle, config.device, 0, config.highlights, config.words, config.recheck_words)
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
