"""A unit's way through the graph: read and validate, stages, commit.

A unit travels as one row: its plan, its accepted rows and its rejects as Arrow IPC bytes, and counts of work, so that
every step sees whole units and nothing is lost between two steps. Once OUT/_stop exists, units that no worker has begun
pass through untouched and uncounted. No Ray here: `executors.py` says where the steps run.

Reading and committing run in many short-lived processes: importing this must not import torch, which takes seconds.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.catalog import commit
from ray_app.catalog.graceful_stop import stopped
from ray_app.catalog.poison_rows import CrashJournal
from ray_app.data import reviews
from ray_app.data.columns import Columns
from ray_app.data.halving import Reasons
from ray_app.data.schema import rejected_rows
from ray_app.engine.flops import WorkCounters
from ray_app.inference.own_thread import OwnThread, Pool
from ray_app.progress import peak_mb

if TYPE_CHECKING:
    from ray_app.catalog.options import Config
    from ray_app.inference.runtime import BundleRuntime

COMPUTED = "units computed on "  # a counter per way to compute, which `Device.arithmetic` names
LANES = 2  # threads that share a GPU: what the host does for a unit takes less time than the GPU needs for another

PLACE = ("source_file", "source_row")  # where a row comes from: accepted rows carry it to the end
UnitRow = dict[str, list[object] | pa.Array]  # the columns of a table of one row, from which the next step's is made


@dataclass(frozen=True, kw_only=True)
class Read:
    """A step: units that are read in one go -> one row per unit: unit, accepted rows, rejected rows, facts, work."""

    columns: Columns
    out: str

    def __call__(self, row: pa.Table) -> Iterator[UnitRow]:
        units = [reviews.unit_of(unit) for unit in row["units"][0].as_py()]
        begun = 0
        if not stopped(self.out):
            for rows in reviews.read_units(units, self.columns):
                begun += 1
                yield {
                    "unit": [reviews.row_of(rows.unit)],
                    "accepted": pa.array([_pack(rows.accepted)], pa.large_binary()),
                    "rejected": pa.array([_pack(rows.rejected)], pa.large_binary()),
                    "repaired": [json.dumps(rows.repaired)],
                    "work": ["{}"],
                }
                if stopped(self.out):
                    break
        yield from (_untouched(unit) for unit in units[begun:])


class Lane:
    """Stages that run over whole units in a thread of their own.

    Args:
        names: the stages it runs.
        last: whether these end the graph, so that findings are assembled.
    """

    def __init__(
        self, runtime: "BundleRuntime", config: "Config", out: str, names: list[str], last: bool, thread: OwnThread
    ) -> None:
        from ray_app.inference.stages import build_stages

        self.runtime, self.out, self.thread = runtime, out, thread
        self.last, self.keep_text = last, config.text or "text" in config.keep
        graph = build_stages(
            config.highlights,
            config.words,
            config.recheck_words,
            config.embeddings,
            config.opinions,
            config.recheck_by,
        )
        self.stages = [(name, make(runtime)) for name, make in graph if name in names]

    def run_stages(self, table: pa.Table) -> pa.Table:
        """Accepted rows with the columns of these stages; after the last stage, findings in their place."""
        from ray_app.inference.stages import assemble_findings

        for name, stage in self.stages:
            began = time.monotonic()
            table = stage(table)
            self.runtime.work.add(**{f"seconds_{name}": time.monotonic() - began})
        return assemble_findings(table, self.runtime.bundle, self.keep_text) if self.last else table

    def run(self, row: pa.Table, journal: CrashJournal) -> UnitRow:
        """A unit's row with its accepted rows as the stages leave them, and as rejects those on which they fail."""
        accepted, rejects = row["accepted"][0].as_py(), row["rejected"][0].as_py()
        if rejects is None or stopped(self.out):
            return _untouched(_unit(row))
        work = WorkCounters(json.loads(row["work"][0].as_py()))
        self.runtime.work.clear()
        table, rejected = None if accepted is None else _unpack(accepted), _unpack(rejects)
        if table is not None:
            tables, bad = journal.run(self.run_stages, table)
            rejected = pa.concat_tables([rejected, _rejects(table, bad)])
            table = pa.concat_tables(tables) if tables else self.run_stages(table.slice(0, 0))
        work.add(**self.runtime.work)
        if self.last:
            work.add(**{COMPUTED + self.runtime.device.arithmetic: 1})
        work["peak_mb"] = max(work.get("peak_mb", 0.0), peak_mb())
        return {
            "unit": row["unit"],
            "accepted": pa.array([_pack(table)], pa.large_binary()),
            "rejected": pa.array([_pack(rejected)], pa.large_binary()),
            "repaired": row["repaired"],
            "work": [json.dumps(work)],
        }


class StageWorker:
    """A step that holds the classifiers and runs stages over whole units.

    Beside a GPU two threads share the classifiers: one prepares a unit, or puts its findings together, while the GPU
    works on the other's.

    Args:
        names: the stages it runs.
        last: whether these end the graph, so that findings are assembled.
        threads: CPU threads of the classifiers; 0 leaves the choice to torch.
    """

    def __init__(self, config: "Config", out: str, names: list[str], last: bool, threads: int) -> None:
        self.out, self.names = out, names
        self.lanes = self._load(config, threads, last)
        self.free = Pool(self.lanes)
        self.trying: list[CrashJournal] = []  # of the units that are being worked on

    def __call__(self, row: pa.Table) -> UnitRow:
        """A unit's row; may be called by as many threads as there are lanes."""
        journal = CrashJournal(storage.join(self.out, "_tries", f"{row['unit'][0]['id']}.{self.names[0]}.json"))
        # a process that dies must leave no doubt about which unit it died on
        alone = len(self.lanes) > 1 and journal.in_pieces()
        with self.free.held(alone) as lane:
            self.trying.append(journal)
            try:
                return lane.thread.run(lane.run, row, journal)
            finally:
                self.trying.remove(journal)

    def blame_none(self) -> None:
        """Takes back the notes of all units: the process ends for what no row of them did."""
        for journal in list(self.trying):
            journal.take_back()

    def _load(self, config: "Config", threads: int, last: bool) -> list[Lane]:
        from ray_app.inference import bundle_names
        from ray_app.inference.runtime import BundleRuntime

        def lane(runtime: BundleRuntime, thread: OwnThread) -> Lane:
            return thread.run(Lane, runtime, config, self.out, self.names, last, thread)

        first = OwnThread()
        place = bundle_names.absolute(config.bundle)
        runtime = first.run(BundleRuntime, place, config.device, threads, probe=True, thresholds=config.thresholds)
        lanes = [lane(runtime, first)]
        if runtime.device.torch_device.type != "cpu":
            lanes += [lane(runtime.twin(), OwnThread()) for _ in range(1, LANES)]
        return lanes


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A step: unit, analyzed rows, rejected rows -> files, and the commit's record as JSON; "" for an untouched one."""

    out: str
    partition_by: str
    source: bool = False
    findings: bool = False

    def __call__(self, row: pa.Table) -> UnitRow:
        unit = _unit(row)
        accepted, rejects = row["accepted"][0].as_py(), row["rejected"][0].as_py()
        if rejects is None:
            return {"record": [""]}
        analyzed, rejected = None if accepted is None else _unpack(accepted), _unpack(rejects)
        if analyzed is not None and not self.source:
            analyzed = analyzed.drop_columns(list(PLACE))
        findings = 0 if analyzed is None else pc.sum(pc.list_value_length(analyzed["findings"])).as_py() or 0
        facts: commit.UnitFacts = {"findings": findings, "work": json.loads(row["work"][0].as_py())}
        repaired = json.loads(row["repaired"][0].as_py())
        if repaired:
            facts["repaired"] = repaired
        record = commit.commit(self.out, unit, analyzed, rejected, facts, self.partition_by, self.findings)
        return {"record": [json.dumps(record)]}


def _unit(row: pa.Table) -> reviews.Unit:
    return reviews.unit_of(row["unit"][0].as_py())


def _untouched(unit: reviews.Unit) -> UnitRow:
    """A unit that no step has begun: without rejects, not even an empty table of them."""
    return {
        "unit": [reviews.row_of(unit)],
        "accepted": pa.nulls(1, pa.large_binary()),
        "rejected": pa.nulls(1, pa.large_binary()),
        "repaired": ["{}"],
        "work": ["{}"],
    }


def _rejects(table: pa.Table, bad: Reasons) -> pa.Table:
    """Rejects for the rows of `table` in `bad`."""
    some = table.select(["review_id", "text", *PLACE]).take(pa.array(list(bad), pa.int64())).to_pylist()
    return rejected_rows(
        [
            (row["review_id"], row["text"], reason, row["source_file"], row["source_row"])
            for reason, row in zip(bad.values(), some, strict=True)
        ]
    )


def _pack(table: pa.Table | None) -> bytes | None:
    if table is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
