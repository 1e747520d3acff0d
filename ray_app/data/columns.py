"""Which columns of an input hold the id and the text, and which of its rows can be analyzed.

In: the schema and rows of a file, and the user's `--columns` and `--keep`. Out: Columns; accepted and rejected rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ray_app.data.schema import ANALYSIS, MAX_CHARACTERS, ROW_OPTIONS, rejected_rows
from ray_app.data.text import is_blank
from ray_app.errors import check, closest

ID_NAMES = ("review_id", "id", "reviewid", "review_no", "review_number", "리뷰id", "리뷰_id", "리뷰번호", "번호")
TEXT_NAMES = (
    "text",
    "review",
    "review_text",
    "content",
    "contents",
    "comment",
    "body",
    "document",
    "completion_text",
    "리뷰",
    "리뷰내용",
    "리뷰_내용",
    "내용",
    "본문",
    "후기",
    "상품평",
)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of an input hold the id and the text, and which pass through under their own name.

    `types` are the kept columns' types in the first file; other files are cast to them.
    """

    review_id: str
    text: str
    keep: tuple[str, ...] = ()
    types: pa.Schema | None = field(default=None, compare=False)

    @property
    def all(self) -> list[str]:
        """The distinct columns to read: id, text, kept columns."""
        return list(dict.fromkeys([self.review_id, self.text, *self.keep]))

    def misfit(self, schema: pa.Schema) -> str | None:
        """The reason why a file with this schema does not fit the input, or None."""
        for name in self.all:
            if name not in schema.names:
                return f"no column {name!r} in this file"
            wanted = self.types.field(name).type if self.types and name in self.types.names else None
            if wanted is not None and _kind(schema.field(name).type) not in (_kind(wanted), "null"):
                return f"column {name!r} is {schema.field(name).type} in this file, {wanted} in the first"
        return None


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


def find_columns(schema: pa.Schema, mapping: str, keep: Sequence[str], uri: str) -> Columns:
    """Columns of an input by `--columns review_id=…,text=…` and `--keep a,b`, else by ID_NAMES and TEXT_NAMES.

    Raises UserError, naming the flag and the file at `uri`, where a column is missing or its name is reserved.
    """
    named = parse_columns(mapping, ("review_id", "text"))
    review_id = _find_column(schema, "review_id", ID_NAMES, named, uri)
    text = _find_column(schema, "text", TEXT_NAMES, named, uri)
    of_stages = (name for name, _ in (*ANALYSIS, *ROW_OPTIONS))
    reserved = {"review_id", "reason", "text", "scores", "highlights", "embedding", *of_stages}
    for name in keep:
        check(name in schema.names, f"{uri}: --keep {name}: no such column{closest(name, schema.names)}")
        own_text = name == "text" == text
        check(own_text or name not in reserved, f"{uri}: --keep {name}: the analyses have a column of that name")
    types = pa.schema([(name, _plain_type(schema.field(name).type)) for name in keep if name != "text"])
    return Columns(review_id=review_id, text=text, keep=tuple(keep), types=types)


def split_rows(raw: pa.Table, columns: Columns, file: str, first_row: int) -> tuple[pa.Table, pa.Table]:
    """Accepted rows (review_id, text, kept columns) and rejected rows (REJECTED).

    `first_row` is the number of the table's first row in `file`, so that a reject names its row. White space around an
    id is removed, and an id already seen in this table is rejected; texts stay as given.
    """
    ids = [_id_of(value) for value in _values(raw[columns.review_id])]
    texts = _values(raw[columns.text])
    seen: set[str] = set()
    reasons = [_reason(i, text, seen) for i, text in zip(ids, texts, strict=True)]
    good = [i for i, reason in enumerate(reasons) if reason is None]
    bad = [i for i, reason in enumerate(reasons) if reason is not None]
    accepted = {
        "review_id": pa.array([ids[i] for i in good], pa.string()),
        "text": pa.array([texts[i] for i in good], pa.string()),
    }
    kept = raw.select(list(columns.keep)).take(pa.array(good, pa.int64()))
    accepted |= {name: _cast(kept[name], name, columns.types) for name in columns.keep if name != "text"}
    rejected = [(ids[i], texts[i], str(reasons[i]), file, first_row + i) for i in bad]
    return pa.table(accepted), rejected_rows(rejected)


def _find_column(schema: pa.Schema, role: str, names: Sequence[str], named: Mapping[str, str], uri: str) -> str:
    """The column that the user named for a role, else the first of `names` that the schema has."""
    if role in named:
        name = named[role]
        check(name in schema.names, f"{uri}: no column {name!r}{closest(name, schema.names)}")
        return name
    by_fold: dict[str, str] = {folded(name): name for name in reversed(schema.names)}
    candidates = [by_fold[folded(name)] for name in names if folded(name) in by_fold]
    check(candidates, f"{uri}: no {role} column among {', '.join(schema.names)}; name it with --columns {role}=NAME")
    return candidates[0]


def _cast(column: pa.ChunkedArray, name: str, types: pa.Schema | None) -> pa.ChunkedArray:
    return column.cast(types.field(name).type) if types and name in types.names else column


def _plain_type(of: pa.DataType) -> pa.DataType:
    """A dictionary's value type: files written separately have different dictionaries."""
    return of.value_type if pa.types.is_dictionary(of) else of


def _kind(of: pa.DataType) -> str:
    """Groups types: one column may have different types of the same kind in different files."""
    of = _plain_type(of)
    kinds = {"integer": pa.types.is_integer, "number": pa.types.is_floating, "time": pa.types.is_temporal}
    kinds |= {"string": lambda t: any(is_a(t) for is_a in (pa.types.is_string, pa.types.is_large_string))}
    return next((kind for kind, is_a in kinds.items() if is_a(of)), str(of))


def folded(name: str) -> str:
    """A column name without case, spaces and underscores: `Review Text` and `review_text` are the same column."""
    return name.casefold().replace(" ", "").replace("_", "")


def _values(column: pa.ChunkedArray) -> list[object]:
    """Python values; a string that is not UTF-8 stays bytes, so that only its own row is rejected."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast(pa.binary()).to_pylist()]


def _decoded(value: object) -> object:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _id_of(value: object) -> str | None:
    """An id as a string; None where it is null, blank or bytes that are not UTF-8."""
    value = _decoded(value)
    return None if value is None or isinstance(value, bytes) else str(value).strip() or None


def _reason(review_id: str | None, text: object, seen: set[str]) -> str | None:
    """Why a row is rejected, None where it is accepted; adds its id to the ids `seen` before."""
    if review_id is None:
        return "null id"
    if review_id in seen:
        return "id already seen in its unit"
    seen.add(review_id)
    if text is None:
        return "null text"
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, not a string"
    if is_blank(text):
        return "empty text"
    if len(text) > MAX_CHARACTERS:
        return f"text has {len(text)} characters, over the limit of {MAX_CHARACTERS}"
    return None
