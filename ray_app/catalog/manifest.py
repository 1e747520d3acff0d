"""What a run has promised and what it has done, kept in its output folder: enough to go on after any death.

    OUT/_plan/0000.{files,units}.parquet, 0000.json    what is analysed, and with what; one more for every --incremental
    OUT/_units/<unit>.json                             a unit's commit
    OUT/_files/000000.json, 000000.done.json           an output file: whose rows it will hold, and that it does

Whatever decides is created once and never rewritten, so that two writers cannot both decide. Nothing here holds a row:
memory grows with the number of units.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ray_app import storage
from ray_app.data.columns import Columns
from ray_app.data.reviews import THREADS, Plan, Source, Unit
from ray_app.errors import check

Settings = dict[str, Any]  # flag -> value: what must not change within one output


@dataclass(frozen=True)
class Run:
    """An output's plans, the first and what was added to it, with the settings all of them share."""

    settings: Settings
    plans: tuple[Plan, ...]

    @property
    def units(self) -> list[Unit]:
        return [unit for plan in self.plans for unit in plan.units]

    @property
    def sources(self) -> list[Source]:
        return [source for plan in self.plans for source in plan.sources]

    @property
    def columns(self) -> Columns:
        return self.plans[0].columns


def begun(out: str) -> bool:
    """True where `out` holds a run."""
    return storage.exists(_plan_uri(out, 0, "json"))


def load(out: str) -> Run | None:
    """The run that `out` holds; None where none was planned there."""
    plans: list[Plan] = []
    settings: Settings = {}
    while storage.exists(uri := _plan_uri(out, len(plans), "json")):
        content = storage.read_json(uri)
        settings = content["settings"]
        settings["--keep"] = ",".join(name.strip() for name in settings["--keep"].split(",") if name.strip())
        plans.append(_load_plan(out, len(plans), content))
    return Run(settings, tuple(plans)) if plans else None


def add(out: str, number: int, plan: Plan, settings: Settings) -> None:
    """Writes plan `number`; its JSON comes last and makes it one. Raises UserError where another run wrote it first."""
    for name, rows in (("files", plan.sources), ("units", plan.units)):
        kind = Source if name == "files" else Unit
        storage.write_parquet(_plan_uri(out, number, f"{name}.parquet"), _table(rows, kind))
    columns = {**asdict(plan.columns), "types": _encoded(plan.columns.types)}
    content = {"settings": settings, "columns": columns, "files": len(plan.sources), "units": len(plan.units)}
    ours = storage.create(_plan_uri(out, number, "json"), json.dumps(content, ensure_ascii=False).encode())
    check(ours, f"{out}: another run was begun there at this moment; wait for it, or name another --output")


def agree(out: str, before: Settings, now: Settings) -> None:
    """Raises UserError naming the first setting in which a run differs from the one that `out` holds."""
    for key in sorted({*before, *now}):
        check(
            before.get(key) == now.get(key),
            f"{out} was begun with {key} {before.get(key)!r}, now it is {now.get(key)!r}; go on with the same, or name "
            "another --output",
        )


def unchanged(run: Run, files: list[storage.FileInfo], done: set[str]) -> None:
    """Raises UserError where a planned file is another now, or where one with work left is gone."""
    now = {file.uri: file.version for file in files}
    left = {unit.file for unit in run.units if unit.id not in done}
    for source in run.sources:
        version = now.get(source.file)
        check(version or source.file not in left, f"{source.file}: gone since the run was planned; put it back")
        check(
            version in (None, source.version),
            f"{source.file}: changed since the run was planned ({source.version} -> {version}); put it back, or name "
            "another --output",
        )


def committed(out: str) -> Iterator[dict[str, Any]]:
    """Every commit marker's record."""
    files = storage.list_files(storage.join(out, "_units")) if storage.exists(storage.join(out, "_units")) else []
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(storage.read_json, (file.uri for file in files if file.uri.endswith(".json")))


def _plan_uri(out: str, number: int, suffix: str) -> str:
    return storage.join(out, "_plan", f"{number:04d}.{suffix}")


def _load_plan(out: str, number: int, content: dict[str, Any]) -> Plan:
    def rows(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = storage.read_parquet(_plan_uri(out, number, f"{name}.parquet")).to_pylist()
        return found

    saved = content["columns"]
    columns = Columns(
        review_id=saved["review_id"], text=saved["text"], keep=tuple(saved["keep"]), types=_decoded(saved["types"])
    )
    return Plan(tuple(Source(**row) for row in rows("files")), tuple(Unit(**row) for row in rows("units")), columns)


def _table(rows: Any, kind: type) -> pa.Table:
    types = {"str": pa.string(), "int": pa.int64(), "str | None": pa.string()}
    names = {name: types[getattr(hint, "__name__", None) or str(hint)] for name, hint in kind.__annotations__.items()}
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=pa.schema(list(names.items())))


def _encoded(schema: pa.Schema | None) -> str:
    return base64.b64encode((schema or pa.schema([])).serialize()).decode()


def _decoded(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
