"""The main job: every review of a catalog through the graph, on Ray Data, exactly once whatever dies.

    units -> read and validate -> stages in actor pools -> commit -> publish

In: Parquet reviews and a bundle. Out: OUT/data, OUT/rejected and OUT/_run.json, with what a run needs to go on after
any death beside them (`units.py`, `manifest.py`, `publish.py`). `pipeline.py` has the steps a unit goes through,
`placement.py` says where they run; here is one run from its plan to its last file.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option

REJECTS_EXIT = 3  # the job is complete, but some files could not be read


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.analyze`."""

    input: str = option(
        "sample",
        "reviews: a Parquet file, folder or glob, local or s3://; sample = the shipped catalog",
        "Data",
        common=True,
    )
    bundle: str = option("runs/quickstart/bundle", "bundle that jobs.train wrote", "Data", common=True)
    output: str = option("runs/analyses", "output folder; an unfinished run in it is resumed", "Data", common=True)
    columns: str = option("", "column names where they are not found: review_id=NAME,text=NAME", "Data", common=True)
    keep: tuple[str, ...] = option((), "columns that pass through", "Data", common=True)
    partition_by: str = option("", "kept column whose values become folders: OUTPUT/data/mall=A/", "Data")
    sink: str = option("", "also append the rows to a table, in pyiceberg's catalog", "Data", ("", "iceberg"))
    table: str = option("nunchi.analyses", "the table that --sink appends to", "Data")
    limit: int = option(0, "analyze only the first rows, this many; 0 for all", "Data", least=0, common=True)
    resume: bool = option(True, "resume the unfinished run that --output holds", "Run")
    incremental: bool = option(
        False, "also analyze files that came to the input since --output was begun", "Run", common=True
    )
    dry_run: bool = option(False, "print plan, columns, estimated time and memory; write nothing", "Run", common=True)
    max_rejected: str = option("100%", "stop when more than this are rejected: 1% of the rows, or a number", "Run")
    price_per_hour: float = option(0.0, "price of the machines per hour, to report what the run cost", "Run", least=0)
    highlights: str = option(
        "exact",
        "the word behind every keyword: exact; recheck lets int8 name a few words and decides among them; off skips it",
        "Analysis",
        ("exact", "recheck", "off"),
        common=True,
    )
    recheck_words: int = option(3, "words per keyword that recheck decides among", "Analysis", least=1)
    recheck_floor: float = option(
        0.98,
        "smallest share of highlights, on a sample of the input, in which recheck must agree with exact",
        "Analysis",
        least=0,
        most=1,
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
    workers: int = option(
        0, "actors per pool, 0 for one per GPU, or one per four CPUs", "Cluster", least=0, common=True
    )
    cpus_per_worker: float = option(
        0.0, "CPUs an actor reserves and uses as threads, 0 for an equal share", "Cluster", least=0
    )
    device: str = option("auto", "where the classifiers run", "Cluster", ("auto", "cpu", "cuda"))
    unit_rows: int = option(2_000, "rows per unit of work at most", "Cluster", least=1)
    file_megabytes: int = option(128, "size of an output file", "Cluster", least=1)
    progress_seconds: float = option(
        30.0, "seconds between progress lines where the output is no terminal", "Cluster", above=0
    )
    log: str = option(
        "text", "json adds a line of JSON for every committed unit, with a run id", "Cluster", ("text", "json")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check("://" not in self.output or self.output.startswith("s3://"), f"--output {self.output}: a folder or s3://")
        check(
            not self.partition_by or (self.partition_by in self.keep and self.partition_by != "text"),
            f"--partition-by {self.partition_by}: name it in --keep too",
        )
        check(all(self.table.split(".")) and "." in self.table, f"--table {self.table!r}: write NAMESPACE.TABLE")
        check(not (self.limit and self.incremental), "--limit with --incremental: a cut input cannot be added to")
        self.rejects_allowed(100)

    def rejects_allowed(self, rows: int) -> float:
        """How many of so many rows may be rejected."""
        share = self.max_rejected.endswith("%")
        try:
            number = float(self.max_rejected.removesuffix("%"))
        except ValueError:
            number = -1
        check(number >= 0, f"--max-rejected {self.max_rejected}: write 1% or a number of rows")
        return rows * number / 100 if share else number


def run(config: Config) -> int:
    """Analyses the catalog; returns the exit code."""
    from ray_app import storage
    from ray_app.catalog import iceberg, preflight
    from ray_app.catalog.lease import Lease
    from ray_app.inference import bundle

    model = bundle.load(config.bundle)
    settings = _settings(config, model.id)
    out = storage.absolute(config.output)
    if config.dry_run:
        plan = _plan(config, settings)
        _announce(plan, model)
        preflight.dry_run(config, plan)
        return 0
    _check_output(config, out)
    if config.sink:
        iceberg.catalog(config.table)  # not after hours of work
    if config.placement != "here":
        from ray_app import cluster

        cluster.start()
    with Lease(out) as lease:
        job = CatalogRun(config, model, settings, out)
        return job.go(lease)


class CatalogRun:
    """One run on an output that it holds the lease of."""

    def __init__(self, config: Config, model: Any, settings: dict[str, Any], out: str) -> None:
        from ray_app import storage
        from ray_app.catalog import graceful_stop, manifest
        from ray_app.catalog.compaction import Publisher
        from ray_app.catalog.progress import Progress
        from ray_app.catalog.telemetry import RunMetrics

        self.config, self.out, self.model_id = config, out, model.id
        graceful_stop.clear(out)
        self.run, self.agreement = _begin(config, model, settings, out)
        rows = sum(plan.rows for plan in self.run.plans)
        self.ledger = Progress(rows, config.progress_seconds)
        self.publisher = Publisher(out, config.file_megabytes << 20)
        self.done: set[str] = set()
        for record in manifest.committed(out):
            self.done.add(record["id"])
            self.ledger.recall(record)
            self.publisher.add(record)
        manifest.unchanged(self.run, storage.list_files(settings["--input"], ".parquet"), self.done)
        self.allowed = config.rejects_allowed(rows)
        self.meter = RunMetrics(f"{model.id}-{uuid.uuid4().hex[:8]}", config.log == "json")

    def go(self, lease: Any) -> int:
        from ray_app import storage
        from ray_app.catalog.graceful_stop import GracefulStop

        for record in self._unreadable():
            self._count(record)
        todo = [unit for unit in self.run.units if unit.id not in self.done]
        if self.done:
            print(f"{self.ledger.before:,} rows were committed before; {len(todo):,} units are left", flush=True)
            if not todo and self._finished():
                self._sink()
                return REJECTS_EXIT if self.ledger.unreadable else 0
        with GracefulStop(self.out) as signals, self.ledger.heartbeat():
            for record in self._analyzed(todo):
                self._count(record)
                lease.check()
        if signals.seen and self._left():
            print(f"stopped: {self._left():,} rows are left; the same command goes on", flush=True)
            return 128 + signals.seen
        check(not self._left(), f"{self.config.output}: {self._left()} rows were not committed; run the same again")
        self.publisher.finish()
        self._sink()
        summary = self._summary() | self.agreement
        storage.write_json(storage.join(self.out, "_run.json"), summary)
        _report(summary, self.config.output)
        return REJECTS_EXIT if self.ledger.unreadable else 0

    def _analyzed(self, todo: list[Any]) -> Iterator[dict[str, Any]]:
        from ray_app.catalog import executors

        where = executors.run_here if self.config.placement == "here" else executors.run_on_ray
        yield from where(self.config, self.out, todo, self.run.columns) if todo else ()

    def _count(self, record: dict[str, Any]) -> None:
        self.ledger.add(record)
        self.publisher.add(record)
        work = record["work"]
        seconds = {key[8:]: value for key, value in work.items() if key.startswith("seconds_")}
        counts = (record["rows_in"], record["rejected"], work.get("tokens", 0), work.get("masked", 0))
        self.meter.add(*counts, stage_seconds=seconds)
        rejected = self.ledger.counts["rejected"]
        check(
            rejected <= self.allowed,
            f"--max-rejected {self.config.max_rejected}: {rejected:,} of {self.ledger.counts['rows_in']:,} rows were "
            f"rejected (see {self.config.output}/_parts/rejected); raise it and the same command goes on",
        )

    def _unreadable(self) -> Iterator[dict[str, Any]]:
        """Files without readable rows are units of none: one reject stands for each."""
        import hashlib

        from ray_app.catalog import commit
        from ray_app.data import reviews
        from ray_app.data.schema import rejected_unit

        for source in self.run.sources:
            name = "file-" + hashlib.sha256(f"{source.file}|{source.version}".encode()).hexdigest()[:16]
            if source.reason and name not in self.done:
                unit = reviews.Unit(
                    id=name, file=source.file, version=source.version, row_group=0, skip=0, first=0, rows=0
                )
                facts = {"findings": 0, "work": {}, "unreadable": source.reason}
                yield commit.commit(self.out, unit, None, rejected_unit(source.file, 0, source.reason), facts)

    def _sink(self) -> None:
        from ray_app.catalog import iceberg

        if self.config.sink:
            rows = iceberg.iceberg(self.out, self.config.table)
            print(f"{rows:,} rows appended to the table {self.config.table}", flush=True)

    def _finished(self) -> bool:
        """True where all that is committed is published, and told in `_run.json`."""
        from ray_app import storage

        told = storage.join(self.out, "_run.json")
        rows = self.ledger.counts["rows_in"]
        return not self.publisher.waiting and storage.exists(told) and storage.read_json(told)["rows_in"] == rows

    def _left(self) -> int:
        return self.ledger.total - self.ledger.counts["rows_in"]

    def _summary(self) -> dict[str, Any]:
        summary = {**self.ledger.summary(), "bundle": self.model_id, "config": as_dict(self.config)}
        if self.config.price_per_hour:
            summary["cost"] = round(summary["seconds"] / 3600 * self.config.price_per_hour, 2)
        return summary


def _settings(config: Config, bundle_id: str) -> dict[str, Any]:
    """What decides an output's rows, by the flag that sets it: the same for all runs on one output."""
    from ray_app.data import reviews

    mode = f"{config.highlights} {config.recheck_words}" if config.highlights == "recheck" else config.highlights
    return {
        "--input": reviews.resolve_input(config.input),
        "--bundle": bundle_id,
        "--columns": config.columns,
        "--keep": ",".join(config.keep),
        "--partition-by": config.partition_by,
        "--limit": config.limit,
        "--highlights": mode,
        "--words": config.words,
        "--embeddings": config.embeddings,
        "--unit-rows": config.unit_rows,
    }


def _plan(config: Config, settings: dict[str, Any], before: Any = None) -> Any:
    """The input's plan; with a run before it, of the files which that does not know."""
    from ray_app.data import reviews

    return reviews.plan(
        settings["--input"],
        config.columns,
        config.keep,
        config.unit_rows,
        "|".join(f"{settings[key]}" for key in ("--bundle", "--highlights", "--words", "--embeddings")),
        config.limit,
        before.columns if before else None,
        frozenset(source.file for source in before.sources) if before else frozenset(),
    )


def _check_output(config: Config, out: str) -> None:
    """Nothing of another kind is written into, and a run is gone on with only where that is wanted."""
    from ray_app import storage
    from ray_app.catalog import manifest

    if manifest.begun(out):
        check(
            config.resume or config.incremental,
            f"--output {config.output}: holds a run; drop --no-resume to go on with it, or name another folder",
        )
        return
    visible = storage.exists(out) and storage.list_files(out)
    check(not visible, f"--output {config.output}: not empty; remove it or name another folder")


def _begin(config: Config, model: Any, settings: dict[str, Any], out: str) -> tuple[Any, dict[str, Any]]:
    """The run that the output holds, with new files added where that is wanted, or a new one; and how well recheck does
    on it, found out before anything is written."""
    from ray_app.catalog import manifest, preflight

    run, agreement = manifest.load(out), {}
    if run is not None:
        manifest.agree(out, run.settings, settings)
    if run is None or config.incremental:
        plan = _plan(config, settings, run)
        _announce(plan, model)
        if config.highlights == "recheck" and plan.units:
            agreement = preflight.agreement(config, plan.units, plan.columns)
        if run is None or plan.sources:
            manifest.add(out, len(run.plans) if run else 0, plan, settings)
        run = manifest.load(out)
    return run, agreement


def _announce(plan: Any, model: Any) -> None:
    columns = plan.columns
    print(
        f"{plan.rows:,} rows in {len(plan.units):,} units; review_id={columns.review_id} text={columns.text} "
        f"keep={','.join(columns.keep) or 'nothing'}; bundle {model.id}, {len(model.meta.thresholds)} keywords",
        flush=True,
    )
    if plan.unreadable:
        print(f"{len(plan.unreadable)} of {len(plan.sources):,} files cannot be read: they become rejects", flush=True)


def _report(summary: dict[str, Any], output: str) -> None:
    for file, reason in list(summary["unreadable"].items())[:10]:
        print(f"rejected {file}: {reason}", flush=True)
    cost = f", cost {summary['cost']:,.2f}" if "cost" in summary else ""
    print(
        f"{summary['rows_in']:,} rows in = {summary['analysed']:,} analysed + {summary['rejected']:,} rejected, "
        f"{summary['findings']:,} findings, {summary['seconds']:.0f} s, {summary['rows_per_second']:.0f} rows/s{cost}; "
        f"{output}/data",
        flush=True,
    )
