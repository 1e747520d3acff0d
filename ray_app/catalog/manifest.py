"""What a run has planned and what it has done, kept in its output folder: enough to resume after any death.

    OUT/_plan/0000.{files,units}.parquet, 0000.json    what is analyzed, and with what; one more per --incremental
    OUT/_units/<unit>.json                             a unit's commit, see `commit.py`
    OUT/_files/000000.json, 000000.done.json           an output file, see `compaction.py`

Files that decide something are created once and never rewritten, so that two writers cannot both decide. Nothing here
holds a row: memory grows with the number of units.
"""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

import pyarrow as pa

from ray_app import storage
from ray_app.data.columns import Columns, Dialect, Layout
from ray_app.data.reviews import Piece, Plan, Source, Unit
from ray_app.data.schema import FILES, UNITS
from ray_app.errors import check

Settings = TypedDict(  # flag -> value: what must not change within one output
    "Settings",
    {
        "--input": str,
        "--bundle": str,
        "--columns": str,
        "--keep": str,
        "--partition-by": str,
        "--limit": int,
        "--highlights": str,
        "--opinions": bool,
        "--words": str,
        "--thresholds": str,
        "--embeddings": bool,
        "--unit-rows": int,
        "--text": bool,
        "--source": bool,
        "--findings-table": str,
    },
)


class SavedColumns(TypedDict):
    """`Columns` as JSON; `types` is an Arrow schema as base64. Earlier releases had one layout for all files."""

    review_id: str
    text: str
    keep: list[str]
    types: str
    layouts: NotRequired[list[dict[str, Any]]]
    root: NotRequired[str]


class PlanContent(TypedDict):
    """The JSON of a plan; `files` and `units` are how many rows the Parquet files beside it have."""

    settings: Settings
    columns: SavedColumns
    files: int
    units: int
    bundle: NotRequired[str]  # its name, pinned: a branch or a pointer may stand for another one later


@dataclass(frozen=True)
class Run:
    """An output's plans, the first and those added to it, with the settings that all of them share."""

    settings: Settings
    plans: tuple[Plan, ...]

    @property
    def units(self) -> list[Unit]:
        """Units of all plans, in order."""
        return [unit for plan in self.plans for unit in plan.units]

    @property
    def sources(self) -> list[Source]:
        """Input files of all plans, in order."""
        return [source for plan in self.plans for source in plan.sources]

    @property
    def columns(self) -> Columns:
        """The columns that all plans read: the last plan's, which know the files of all."""
        return self.plans[-1].columns


def earlier_options(out: str) -> dict[str, Any]:
    """Per option that the release of the run in `out` did not know, what it did; none where no such run is there."""
    if not begun(out):
        return {}
    settings = storage.read_json(_plan_uri(out, 0, "json"))["settings"]
    if "--text" in settings:
        return {}
    return {"text": "text" in settings["--keep"].split(","), "source": False, "findings_table": "off"}


def begun(out: str) -> bool:
    """True where `out` holds a run."""
    return storage.exists(_plan_uri(out, 0, "json"))


def bundle_of(out: str) -> str:
    """The pinned name of the bundle that the run in `out` was begun with; "" where none is there, or an older one."""
    return str(storage.read_json(_plan_uri(out, 0, "json")).get("bundle", "")) if begun(out) else ""


def load(out: str) -> Run | None:
    """The run that `out` holds; None where none was planned there."""
    plans: list[Plan] = []
    settings: Settings | None = None
    while storage.exists(uri := _plan_uri(out, len(plans), "json")):
        content: PlanContent = storage.read_json(uri)
        settings = content["settings"]
        settings.setdefault("--opinions", False)  # what wrote it knew none
        settings["--keep"] = ",".join(name.strip() for name in settings["--keep"].split(",") if name.strip())
        settings.setdefault("--text", "text" in settings["--keep"].split(","))
        settings.setdefault("--source", False)
        settings.setdefault("--thresholds", "")
        settings.setdefault("--findings-table", "off")
        plans.append(_load_plan(out, len(plans), content))
    return Run(settings, tuple(plans)) if settings is not None else None


def add(out: str, number: int, plan: Plan, settings: Settings, bundle: str) -> None:
    """Writes plan `number`, of a run with this bundle; it counts once its JSON exists. Raises UserError where another
    run wrote it first."""
    files = pa.Table.from_pylist([vars(source) for source in plan.sources], schema=FILES)
    storage.write_parquet(_plan_uri(out, number, "files.parquet"), files)
    pieces = [{"id": unit.id, **vars(piece)} for unit in plan.units for piece in unit.pieces]
    storage.write_parquet(_plan_uri(out, number, "units.parquet"), pa.Table.from_pylist(pieces, schema=UNITS))
    columns: SavedColumns = {
        "review_id": plan.columns.review_id,
        "text": plan.columns.text,
        "keep": list(plan.columns.keep),
        "types": _encoded(plan.columns.types),
        "layouts": [asdict(layout) for layout in plan.columns.layouts],
        "root": plan.columns.root,
    }
    content: PlanContent = {
        "settings": settings,
        "columns": columns,
        "files": len(plan.sources),
        "units": len(pieces),
        "bundle": bundle,
    }
    ours = storage.create(_plan_uri(out, number, "json"), json.dumps(content, ensure_ascii=False).encode())
    check(ours, f"{out}: another run was begun there at this moment; wait for it, or name another --output")


def agree(out: str, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Raises UserError naming the first of the settings `now` that differs from those of the run already in `out`."""
    for key in sorted({*before, *now}):
        check(
            before.get(key) == now.get(key),
            f"{out} was begun with {key} {before.get(key)!r}, now it is {now.get(key)!r}; resume with the same, or "
            "name another --output",
        )


def unchanged(run: Run, now: Mapping[str, str], done: set[str]) -> None:
    """Raises UserError where a planned file has changed, or where one with units not in `done` no longer exists.

    `now` are the input's files with their versions.
    """
    left = {piece.file for unit in run.units if unit.id not in done for piece in unit.pieces}
    for source in run.sources:
        version = now.get(source.file)
        check(version or source.file not in left, f"{source.file}: gone since the run was planned; put it back")
        check(
            version in (None, source.version),
            f"{source.file}: changed since the run was planned ({source.version} -> {version}); put it back, or name "
            "another --output",
        )


def _plan_uri(out: str, number: int, suffix: str) -> str:
    return storage.join(out, "_plan", f"{number:04d}.{suffix}")


def _load_plan(out: str, number: int, content: PlanContent) -> Plan:
    files, pieces = (
        storage.read_parquet(_plan_uri(out, number, f"{name}.parquet")).to_pylist() for name in ("files", "units")
    )
    saved = content["columns"]
    columns = Columns(
        review_id=saved["review_id"],
        text=saved["text"],
        keep=tuple(saved["keep"]),
        types=_decoded(saved["types"]),
        layouts=tuple(_layout(row) for row in saved.get("layouts", ())),
        root=saved.get("root", ""),
    )
    return Plan(tuple(Source(**row) for row in files), tuple(_units(pieces)), columns)


def _units(rows: Sequence[dict[str, Any]]) -> Iterator[Unit]:
    """Units from their pieces, those of one unit one after the other."""
    for identity, pieces in itertools.groupby(rows, key=lambda row: str(row["id"])):
        yield Unit(id=identity, pieces=tuple(Piece(**{k: v for k, v in row.items() if k != "id"}) for row in pieces))


def _layout(row: dict[str, Any]) -> Layout:
    stored: dict[str, Any] = {**row, "keep": tuple(row["keep"])}
    if stored["dialect"]:
        dialect = stored["dialect"]
        lists: dict[str, Any] = {name: tuple(dialect[name]) for name in ("names", "types")}
        stored["dialect"] = Dialect(**{**dialect, **lists})
    return Layout(**stored)


def _encoded(schema: pa.Schema | None) -> str:
    return base64.b64encode((schema or pa.schema([])).serialize()).decode()


def _decoded(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
