"""A unit's way through the graph: read and validate, stages, commit; and the ledger of what was committed.

A unit travels as one row: its plan, its accepted rows and its rejects as Arrow IPC bytes, and counts of work, so that
every step sees whole units and nothing can be lost between two of them. Once OUT/_stop is there, units that no worker
has begun pass through untouched and uncounted. No Ray here: `analyze.py` says where steps run.
Reading and committing run in many short-lived processes: importing this must not import torch, which takes seconds.
"""

import json
import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.catalog import commit
from ray_app.catalog.graceful_stop import stopped
from ray_app.catalog.poison_rows import Bad, CrashJournal
from ray_app.data import reviews
from ray_app.data.schema import rejected_rows
from ray_app.engine.flops import WorkCounters
from ray_app.engine.own_thread import OwnThread

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Read:
    """unit -> unit, accepted rows, rejected rows."""

    columns: Any
    out: str

    def __call__(self, batch: Any) -> Batch:
        unit = reviews.Unit(**batch["unit"][0].as_py())
        if stopped(self.out):
            return _passed(unit)
        accepted, rejected = reviews.read(unit, self.columns)
        return {"unit": [asdict(unit)], "accepted": [_pack(accepted)], "rejected": [_pack(rejected)], "work": ["{}"]}


class StageWorker:
    """Holds the classifiers and runs the named stages over whole units, in one thread of its own."""

    def __init__(self, config: Any, out: str, names: list[str], last: bool, threads: int) -> None:
        self.thread = OwnThread()
        self.out, self.names = out, names
        self.last, self.keep_text = last, "text" in config.keep
        self.thread.run(self._load, config, names, threads)

    def __call__(self, batch: Any) -> Batch:
        return self.thread.run(self._run, batch)

    def _load(self, config: Any, names: list[str], threads: int) -> None:
        from ray_app.inference.runtime import BundleRuntime
        from ray_app.inference.stages import build_stages

        self.runtime = BundleRuntime(storage.absolute(config.bundle), config.device, threads, probe=True)
        graph = build_stages(config.highlights, config.words, config.recheck_words, config.embeddings)
        self.stages = [(name, make(self.runtime)) for name, make in graph if name in names]

    def _run(self, batch: Any) -> Batch:
        unit = reviews.Unit(**batch["unit"][0].as_py())
        packed = batch["rejected"][0].as_py()
        if packed is None or stopped(self.out):
            return _passed(unit)
        work = WorkCounters(json.loads(batch["work"][0].as_py()))
        self.runtime.work.clear()
        table, rejected = _unpack(batch["accepted"][0].as_py()), _unpack(packed)
        if table is not None:
            uri = storage.join(self.out, "_tries", f"{unit.id}.{self.names[0]}.json")
            tables, bad = CrashJournal(uri).run(self._stages, table)
            rejected = pa.concat_tables([rejected, _rejects(unit, table, rejected, bad)])
            table = pa.concat_tables(tables) if tables else self._stages(table.slice(0, 0))
        work.add(**self.runtime.work)
        work["peak_mb"] = max(work.get("peak_mb", 0.0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        return {
            "unit": [asdict(unit)],
            "accepted": [_pack(table)],
            "rejected": [_pack(rejected)],
            "work": [json.dumps(work)],
        }

    def _stages(self, table: pa.Table) -> pa.Table:
        from ray_app.inference.stages import assemble_findings

        for name, stage in self.stages:
            began = time.monotonic()
            table = stage(table)
            self.runtime.work.add(**{f"seconds_{name}": time.monotonic() - began})
        return assemble_findings(table, self.runtime.bundle, self.keep_text) if self.last else table


@dataclass(frozen=True)
class Commit:
    """unit, analysed rows, rejected rows -> files, and the ledger's record: its id is empty where nothing was done."""

    out: str
    partition_by: str

    def __call__(self, batch: Any) -> Batch:
        unit = reviews.Unit(**batch["unit"][0].as_py())
        analyzed, rejected = (_unpack(batch[name][0].as_py()) for name in ("accepted", "rejected"))
        if rejected is None:
            return {"record": [""]}
        findings = 0 if analyzed is None else pc.sum(pc.list_value_length(analyzed["findings"])).as_py() or 0
        facts = {"findings": findings, "work": json.loads(batch["work"][0].as_py())}
        facts |= {"unreadable": rejected["reason"][0].as_py()} if analyzed is None else {}
        record = commit.commit(self.out, unit, analyzed, rejected, facts, self.partition_by)
        return {"record": [json.dumps(record)]}


def _passed(unit: reviews.Unit) -> Batch:
    return {
        "unit": [asdict(unit)],
        "accepted": pa.nulls(1, pa.binary()),
        "rejected": pa.nulls(1, pa.binary()),
        "work": ["{}"],
    }


def _rejects(unit: reviews.Unit, table: pa.Table, rejected: pa.Table, bad: Bad) -> pa.Table:
    """Rows that the model cannot take as rejects: the table's rows are the unit's, less those rejected before."""
    gone = set(rejected["row"].to_pylist())
    rows = [row for row in range(unit.first, unit.first + unit.rows) if row not in gone]
    some = table.select(["review_id", "text"]).take(pa.array(list(bad), pa.int64())).to_pylist()
    return rejected_rows(
        [(row["review_id"], row["text"], bad[i], unit.file, rows[i]) for i, row in zip(bad, some, strict=True)]
    )


def _pack(table: pa.Table | None) -> bytes | None:
    if table is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes | None) -> Any:
    return None if data is None else pa.ipc.open_stream(data).read_all()
