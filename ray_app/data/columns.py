"""Which columns of an input hold the id and the text, and which of its rows can be analyzed.

In: the schema and rows of a file, and the user's `--columns` and `--keep`. Out: Columns; accepted and rejected rows.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ray_app.data import given_texts
from ray_app.data.column_types import EXACT, UUID_BYTES
from ray_app.data.schema import ANALYSIS, ROW_OPTIONS, rejected_rows
from ray_app.data.values import Scalar, conform, integral, python_values, text_of, uuid_text
from ray_app.errors import check, closest

NUMBERED = "#"  # `--columns review_id=#`: rows are numbered, file and row
HIVE = "="  # begins the name of a column that a file's folders hold: `=mall` of `mall=A/part-0.parquet`
_ROUNDED = re.compile(r"[+-]?\d(\.\d+)?[eE]\+\d\d+")  # as spreadsheets write long numbers
RESERVED = frozenset(
    {"review_id", "reason", "text", "scores", "highlights", "opinions", "embedding", "source_file", "source_row"}
    | {name for name, _ in (*ANALYSIS, *ROW_OPTIONS)}
)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a text file or sheet is written: its names, per name the type of its values, where its rows begin.

    `encoding` is that of the bytes; `start` is the offset of the first row in bytes of the unpacked file (the number of
    rows above it in a sheet); `sheet` is the sheet's name.
    """

    names: tuple[str, ...]
    types: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: str = ","
    start: int = 0
    packed: bool = False
    sheet: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files that are read alike: their kind, their columns for id and text, and, per kept name, its column or None."""

    review_id: str
    text: str
    keep: tuple[str | None, ...] = ()
    kind: str = "parquet"
    dialect: Dialect | None = None

    @property
    def names(self) -> list[str]:
        """The distinct columns to read from a file."""
        named = (self.review_id, self.text, *self.keep)
        return list(dict.fromkeys(name for name in named if name and name != NUMBERED and not name.startswith(HIVE)))

    @property
    def folders(self) -> list[str]:
        """The columns that the file's folders hold."""
        return [name.removeprefix(HIVE) for name in self.keep if name and name.startswith(HIVE)]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of an input hold the id and the text, and the names under which others pass through.

    `types` are the kept columns' types over all files. `layouts` say where files differ; units name theirs by number.
    `root` is the folder of all files: numbered rows are named after the path below it.
    """

    review_id: str
    text: str
    keep: tuple[str, ...] = ()
    types: pa.Schema | None = field(default=None, compare=False)
    layouts: tuple[Layout, ...] = field(default=(), compare=False)
    root: str = field(default="", compare=False)

    def layout(self, number: int) -> Layout:
        """The layout of that number; runs of earlier releases have one for all files."""
        return (
            self.layouts[number] if self.layouts else Layout(review_id=self.review_id, text=self.text, keep=self.keep)
        )

    @property
    def all(self) -> list[str]:
        """The distinct columns to read: id, text, kept columns."""
        return self.layout(0).names


def parse_columns(text: str, roles: Sequence[str]) -> dict[str, str]:
    """`--columns review_id=번호,text=본문` -> column per role that is named.

    Raises UserError where it is not written like that or a role is not one of `roles`.
    """
    mapping = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        role, _, name = (side.strip() for side in item.partition("="))
        check(role and name, f"--columns {item!r}: write {','.join(f'{role}=NAME' for role in roles[:2])}")
        check(role in roles, f"--columns {item!r}: no such field{closest(role, roles)}")
        mapping[role] = name
    return mapping


def split_rows(
    raw: pa.Table,
    columns: Columns,
    file: str,
    first_row: int,
    layout: Layout | None = None,
    bad: Mapping[int, str] | None = None,
    repaired: Counter[str] | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Accepted rows (review_id, text, kept columns) and rejected rows (REJECTED).

    White space around an id is removed, and an id already seen in this table is rejected; texts stay as given.

    Args:
        first_row: the number of the table's first row in `file`, so that a reject names its row.
        layout: where `raw` has its columns; default: under the names of `columns`.
        bad: rows of the table that could not be read, with the reason.
        repaired: counts the kept values that were not UTF-8, by column.
    """
    layout = layout or columns.layout(0)
    texts: list[Scalar] = python_values(raw[layout.text])
    ids, reasons = _ids(raw, layout, file.removeprefix(columns.root).lstrip("/"), first_row)
    seen: set[str] = set()
    for i, text in enumerate(texts):
        reasons[i] = (bad or {}).get(i) or reasons[i] or _reason(ids[i], text, seen)
    kept, misfits = _kept(raw, columns, layout, Counter() if repaired is None else repaired)
    reasons = [reason or misfits.get(i) for i, reason in enumerate(reasons)]
    good = [i for i, reason in enumerate(reasons) if reason is None]
    accepted = {
        "review_id": pa.array([ids[i] for i in good], pa.string()),
        "text": pa.array([texts[i] for i in good], pa.string()),
    }
    accepted |= {name: values.take(pa.array(good, pa.int64())) for name, values in kept.items()}
    rejected = [(ids[i], texts[i], reason, file, first_row + i) for i, reason in enumerate(reasons) if reason]
    return pa.table(accepted), rejected_rows(rejected)


def _ids(raw: pa.Table, layout: Layout, name: str, first_row: int) -> tuple[list[str | None], list[str | None]]:
    """Per row its id, and why it has none that can be told."""
    if layout.review_id == NUMBERED:
        return [f"{name}#{first_row + i}" for i in range(len(raw))], [None] * len(raw)
    column = raw[layout.review_id]
    uuids = pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == UUID_BYTES
    ids: list[str | None] = []
    reasons: list[str | None] = []
    for value in python_values(column):
        if uuids and isinstance(value, (str, bytes)):
            value = uuid_text(value.encode() if isinstance(value, str) else value)
        if isinstance(value, str) and layout.kind == "csv":
            value = integral(value)
        inexact = isinstance(value, float) and abs(value) > EXACT
        inexact |= isinstance(value, str) and bool(_ROUNDED.fullmatch(value.strip()))
        ids.append(None if isinstance(value, bytes) or inexact else (text_of(value) or "").strip() or None)
        reasons.append(
            f"id {value!r} is a rounded number, whose last digits are lost"
            if inexact
            else "id is not UTF-8"
            if isinstance(value, bytes)
            else None
        )
    return ids, reasons


def _kept(
    raw: pa.Table, columns: Columns, layout: Layout, repaired: Counter[str]
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Per kept name its values, and the rows with a value that the column's type cannot hold."""
    kept: dict[str, pa.Array] = {}
    misfits: dict[int, str] = {}
    for name, column in zip(columns.keep, layout.keep, strict=True):
        if name == "text":
            continue
        values = pa.nulls(len(raw), pa.null()) if column is None else raw[column].combine_chunks()
        types = columns.types
        to = types.field(name).type if types is not None and name in types.names else values.type
        try:
            kept[name] = conform(values, to, repaired, name)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError):
            kept[name] = _one_by_one(values, to, name, misfits)
    return kept, misfits


def _one_by_one(values: pa.Array, to: pa.DataType, name: str, misfits: dict[int, str]) -> pa.Array:
    """The values that fit, null for the others, which are noted as misfits."""
    single = []
    for i in range(len(values)):
        try:
            single.append(conform(values.slice(i, 1), to, Counter()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError):
            misfits[i] = f"{name}: '{str(values[i])[:60]}' does not fit {to}, the column's type"
            single.append(pa.nulls(1, to))
    return pa.concat_arrays(single)


def _reason(review_id: str | None, text: Scalar, seen: set[str]) -> str | None:
    """Why a row is rejected, None where it is accepted: then its id is added to the ids `seen` before."""
    if review_id is None:
        return "null id"
    if review_id in seen:
        return "id already seen in its unit"
    why = given_texts.reason(text)
    if why:
        return why
    seen.add(review_id)
    return None
