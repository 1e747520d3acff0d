"""One run of a catalog job, from its plan to its last file: units in, commits, output files and `_run.json` out."""

import hashlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ray_app import storage
from ray_app.catalog import commit, executors, graceful_stop, iceberg, manifest, planning, repeated_ids
from ray_app.catalog.commit import CommitLog, CommitRecord, committed
from ray_app.catalog.compaction import Publisher, published
from ray_app.catalog.graceful_stop import GracefulStop
from ray_app.catalog.manifest import Settings
from ray_app.catalog.progress import Progress, RunFigures
from ray_app.catalog.telemetry import RunMetrics
from ray_app.cli import next_command
from ray_app.data import reviews
from ray_app.data.reviews import UNREADABLE, Piece, Unit
from ray_app.data.schema import rejected_unit
from ray_app.errors import check
from ray_app.inference import thresholds
from ray_app.inference.bundle import Bundle
from ray_app.options import as_dict
from ray_app.storage.lease import Lease

if TYPE_CHECKING:
    from ray_app.catalog.options import Config

log = logging.getLogger(__name__)
LISTED = 10  # unreadable files that the final report names


class CatalogRun:
    """One run on an output whose lease it holds. Making one plans it or resumes what the output holds. `named`: the
    bundle as the user wrote it."""

    def __init__(self, config: "Config", bundle: Bundle, settings: Settings, out: str, named: str) -> None:
        self.config, self.out, self.bundle_id, self.named = config, out, bundle.id, named
        self.thresholds = thresholds.named(thresholds.applied(bundle, config.thresholds).meta)
        graceful_stop.clear(out)
        self.run, self.agreement = planning.begin_or_resume(config, bundle, settings, out)
        rows = sum(plan.rows for plan in self.run.plans)
        self.progress = Progress(rows, config.progress_seconds)
        self.publisher = Publisher(
            out, config.file_megabytes << 20, csv=config.findings_table == "csv", types=self.run.columns.types
        )
        if len(self.run.plans) > 1:
            self.publisher.recast()
        self.done: set[str] = set()
        self.log = CommitLog(out)
        for record, logged in committed(out):
            self.done.add(record["id"])
            self.progress.recall(record)
            self.publisher.add(record)
            if not logged:
                self.log.add(record)
        manifest.unchanged(self.run, reviews.input_versions(settings["--input"]), self.done)
        self.allowed_rejects = config.rejects_allowed(rows)

    @property
    def unreadable(self) -> dict[str, str]:
        """File -> reason, of the files and units that could not be read."""
        return self.progress.unreadable

    @property
    def all_rejected(self) -> bool:
        """True where there were rows, and none could be analyzed."""
        return bool(self.progress.counts["rows_in"]) and not self.progress.counts["analysed"]

    @cached_property
    def metrics(self) -> RunMetrics:
        """Made when the first unit is counted: Ray's own exist only once it runs."""
        return RunMetrics(f"{self.bundle_id}-{uuid.uuid4().hex[:8]}", self.config.log == "json")

    def complete(self, lease: Lease) -> int:
        """Analyzes and publishes what is left. Returns 0, or 128 + the signal that stopped the run.

        Raises UserError where too many rows are rejected, the pipeline fails or another run takes over.
        """
        try:
            return self._complete(lease)
        finally:
            self.publisher.close()

    def _complete(self, lease: Lease) -> int:
        for record in self._commit_unreadable_files():
            self._count(record)
        todo = [unit for unit in self.run.units if unit.id not in self.done]
        if self.done:
            log.info(
                "%s rows were committed before; %s units are left", f"{self.progress.rows_before:,}", f"{len(todo):,}"
            )
            if not todo and self._is_finished():
                self._append_to_sink()
                return 0
        with GracefulStop(self.out) as stop, self.progress.heartbeat():
            for record in self._analyzed(todo):
                self._count(record)
                lease.check()
        left = self.progress.rows_left
        if stop.signal and left:
            print(f"stopped: {left:,} rows are left; run the same command again to resume", flush=True)
            return 128 + stop.signal
        check(not left, f"{self.config.output}: {left} rows were not committed; run the same command again to resume")
        self.publisher.finish()
        self._check_balance()
        self._append_to_sink()
        self._write_report(self.progress.summary(repeated_ids.count(self.out)))
        return 0

    def _analyzed(self, todo: Sequence[Unit]) -> Iterator[CommitRecord]:
        config = executors.placed(self.config, self.progress.rows_left)
        execute = executors.run_here if config.placement == "here" else executors.run_on_ray
        yield from execute(config, self.out, todo, self.run.columns) if todo else ()

    def _count(self, record: CommitRecord) -> None:
        """Takes a committed unit into progress, output files and metrics; raises UserError at too many rejects."""
        self.progress.add(record)
        self.publisher.add(record)
        self.log.add(record)
        work = record["work"]
        self.metrics.add(
            rows=record["rows_in"],
            rejected=record["rejected"],
            tokens=work.get("tokens", 0),
            masked=work.get("masked", 0),
            stage_seconds={
                name.removeprefix("seconds_"): seconds for name, seconds in work.items() if name.startswith("seconds_")
            },
        )
        counts = self.progress.counts
        check(
            counts["rejected"] <= self.allowed_rejects,
            f"--max-rejected {self.config.max_rejected}: {counts['rejected']:,} of {counts['rows_in']:,} rows were "
            f"rejected (see {self.config.output}/_parts/rejected); raise it and run the same command again to resume",
        )

    def _commit_unreadable_files(self) -> Iterator[CommitRecord]:
        """A file without a readable row has no unit: one reject stands for it."""
        for source in self.run.sources:
            name = "file-" + hashlib.sha256(f"{source.file}|{source.version}".encode()).hexdigest()[:16]
            if source.reason and name not in self.done:
                whole = Piece(file=source.file, version=source.version, row_group=0, skip=0, first=0, rows=0)
                unit = Unit(id=name, pieces=(whole,))
                facts: commit.UnitFacts = {"findings": 0, "work": {}}
                yield commit.commit(self.out, unit, None, rejected_unit(source.file, 0, source.reason), facts)

    def _check_balance(self) -> None:
        """Raises UserError unless the output files hold as many rows as were analyzed."""
        files = [done for _, done in published(self.out) if done and done["file"].startswith("data/")]
        rows, analyzed = sum(done["rows"] for done in files), self.progress.counts["analysed"]
        check(
            rows == analyzed,
            f"{self.config.output}: {analyzed:,} rows analyzed, {rows:,} in its files; please report it",
        )

    def _append_to_sink(self) -> None:
        if self.config.sink:
            rows = iceberg.append_new_files(self.out, self.config.table)
            print(f"{rows:,} rows appended to the table {self.config.table}", flush=True)

    def _is_finished(self) -> bool:
        """True where all that is committed is published, and counted in `_run.json`."""
        uri = storage.join(self.out, "_run.json")
        rows = self.progress.counts["rows_in"]
        return not self.publisher.waiting and storage.exists(uri) and storage.read_json(uri)["rows_in"] == rows

    def _write_report(self, figures: RunFigures) -> None:
        """Writes `_run.json` and prints its gist."""
        cost = round(figures["seconds"] / 3600 * self.config.price_per_hour, 2) if self.config.price_per_hour else None
        report = {
            **figures,
            "bundle": self.bundle_id,
            "bundle_named": self.named,  # what the user wrote; the config has the commit, or what a pointer said
            "thresholds": self.thresholds,
            "config": as_dict(self.config),
            **({} if cost is None else {"cost": cost}),
            **({} if self.agreement is None else {"recheck": self.agreement}),
            "input": {"notes": [note for plan in self.run.plans for note in plan.notes]},
        }
        storage.write_json(storage.join(self.out, "_run.json"), report)
        _print_report(figures, cost, self.config.output)


def _remarks(figures: RunFigures) -> Iterator[str]:
    """What went not as planned: rejected files and rows and why, values that were changed, ids that repeat."""
    yield from (f"rejected {file}: {reason}" for file, reason in list(figures["unreadable"].items())[:LISTED])
    rows = {name: one for name, one in figures["reasons"].items() if one["rows"] and not name.startswith(UNREADABLE)}
    for name, reason in sorted(rows.items(), key=lambda item: -item[1]["rows"])[:LISTED]:
        yield f"rejected {reason['rows']:,} rows: {name}, such as {reason['example']}"
    for column, count in figures["repaired"].items():
        yield f"{column}: {count:,} values are not UTF-8; their bytes are written as \\xb0"
    for folder, value in list(figures["shortened"].items())[:LISTED]:
        yield f"a value is too long for a folder's name: {value}… is {folder}"
    if len(figures["computed_on"]) > 1:
        ways = "; ".join(f"{units:,} units on {way}" for way, units in figures["computed_on"].items())
        yield f"computed in more than one way, so that probabilities may differ a little between units: {ways}"
    if figures["repeated_ids"]:
        yield (
            f"{figures['repeated_ids']:,} ids are on more than one row: files that number their own rows, or copies; "
            "--source keeps file and row, which tell them apart"
        )


def _print_report(figures: RunFigures, cost: float | None, output: str) -> None:
    for line in _remarks(figures):
        print(line)
    price = "" if cost is None else f", cost {cost:,.2f}"
    print(
        f"{figures['rows_in']:,} rows in = {figures['analysed']:,} analyzed + {figures['rejected']:,} rejected, "
        f"{figures['findings']:,} findings, {figures['seconds']:.0f} s, {figures['rows_per_second']:.0f} rows/s{price}"
        f"; {output}/data\n"
        f"Next: {next_command('analyze verify', output=output)}",
        flush=True,
    )
