"""A unit's way through the graph: read and validate, stages, commit; and the ledger of what was committed.

A unit travels as one row: its plan, its accepted rows and its rejects as Arrow IPC bytes, and counts of work, so that
every step sees whole units and nothing can be lost between two of them. No Ray here: `analyze.py` says where steps run.
Reading and committing run in many short-lived processes: importing this must not import torch, which takes seconds.
"""

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage, units
from ray_app.work import Work, summary

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class Read:
    """unit -> unit, accepted rows, rejected rows."""

    columns: Any

    def __call__(self, batch: Any) -> Batch:
        unit = units.Unit(**batch["unit"][0].as_py())
        accepted, rejected = units.read(unit, self.columns)
        return {"unit": [asdict(unit)], "accepted": [_pack(accepted)], "rejected": [_pack(rejected)], "work": ["{}"]}


class Worker:
    """Holds the classifiers and runs the named stages over whole units. Its config is `analyze.Config`.

    One thread of its own loads and runs everything: OpenMP keeps a pool of threads for each thread that calls it, Ray
    calls from another thread than it constructs in, and two pools on the same cores wait for each other (a third of the
    speed of a small encoder).
    """

    def __init__(self, config: Any, names: list[str], last: bool, threads: int) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.last, self.keep_text = last, "text" in config.keep.split(",")
        self.thread.submit(self._load, config, names, threads).result()

    def __call__(self, batch: Any) -> Batch:
        return self.thread.submit(self._run, batch).result()

    def _load(self, config: Any, names: list[str], threads: int) -> None:
        from ray_app.graph import stages
        from ray_app.parts import Parts

        self.parts = Parts(storage.absolute(config.bundle), config.device, threads, probe=True)
        graph = stages(config.highlights, config.words, config.recheck_words, config.embeddings)
        self.stages = [make(self.parts) for name, make in graph if name in names]

    def _run(self, batch: Any) -> Batch:
        from ray_app.graph import assemble

        began = time.monotonic()
        work = Work(json.loads(batch["work"][0].as_py()))
        self.parts.work.clear()
        table = _unpack(batch["accepted"][0].as_py())
        if table is not None:
            for stage in self.stages:
                table = stage(table)
            table = assemble(table, self.parts.bundle, self.keep_text) if self.last else table
        work.add(**self.parts.work, stage_seconds=time.monotonic() - began)
        work["peak_mb"] = max(work.get("peak_mb", 0.0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        return {
            "unit": [batch["unit"][0].as_py()],
            "accepted": [_pack(table)],
            "rejected": [batch["rejected"][0].as_py()],
            "work": [json.dumps(work)],
        }


@dataclass(frozen=True)
class Commit:
    """unit, analysed rows, rejected rows -> files on disk, and the ledger's record."""

    out: str

    def __call__(self, batch: Any) -> Batch:
        unit = units.Unit(**batch["unit"][0].as_py())
        analysed, rejected = (_unpack(batch[name][0].as_py()) for name in ("accepted", "rejected"))
        findings = 0 if analysed is None else pc.sum(pc.list_value_length(analysed["findings"])).as_py() or 0
        work = batch["work"][0].as_py()
        record = units.commit(self.out, unit, analysed, rejected, {"findings": findings, "work": json.loads(work)})
        return {key: [record[key]] for key in ("rows_in", "analysed", "rejected", "findings")} | {"work": [work]}


class Ledger:
    """Counts what was committed and says how it goes."""

    def __init__(self, total: int, every: float) -> None:
        self.work, self.peak_mb = Work(), 0.0
        self.total, self.every = total, 2.0 if sys.stderr.isatty() else every
        self.counts = {"rows_in": 0, "analysed": 0, "rejected": 0, "findings": 0}
        self.began = self.told = time.monotonic()
        self.first = 0.0

    def add(self, record: dict[str, Any]) -> None:
        for key in self.counts:
            self.counts[key] += record[key]
        work = json.loads(record["work"])
        self.peak_mb = max(self.peak_mb, work.pop("peak_mb", 0.0))
        self.work.add(**work)
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
            "peak_worker_mb": round(self.peak_mb),
            "engine": summary(self.work),
        }


def _pack(table: pa.Table | None) -> bytes | None:
    if table is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes | None) -> Any:
    return None if data is None else pa.ipc.open_stream(data).read_all()
