"""One schema for all files of a catalog: each file's columns for id, text and kept names, and one type per kept name.

In: the files' descriptions, `--columns` and `--keep`. Out: Columns with a Layout per kind of file, the reason for each
file that lacks a column, and a line for each column whose types differ.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from ray_app import storage
from ray_app.data.column_types import EXACT, Seen, common_type, has_twins, plain
from ray_app.data.columns import HIVE, NUMBERED, Columns, Layout, parse_columns
from ray_app.data.reading.description import Description
from ray_app.data.reading.files import peek
from ray_app.data.roles import DoubtError, check_keep, find_layout, has_column, twice
from ray_app.errors import UserError, check, closest

EXCEL_DIGITS = 10**15  # from here on a spreadsheet has rounded its numbers
_REMEDY = re.compile(r"; (?:re)?name ")
Described = tuple[storage.FileInfo, Description]
LOW, HIGH = b"low", b"high"  # of a field's metadata: the range of its integers, for files that come later


@dataclass
class Group:
    """Files with the same columns, and the layout by which they are read."""

    first: storage.FileInfo
    description: Description
    folders: tuple[str, ...]
    files: list[Described] = field(default_factory=list)
    layout: Layout | None = None


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The columns of all files; per file the number of its layout, or why it has none; a line per coercion."""

    columns: Columns
    numbers: dict[str, int]
    reasons: dict[str, str]
    notes: tuple[str, ...]


def join(
    described: Sequence[Described], mapping: str, keep: Sequence[str], uri: str, root: str, known: Columns | None
) -> Joined:
    """Joins the columns of all files.

    Args:
        mapping, keep: `--columns` and `--keep`.
        uri: the input, for messages. `root`: the folder of all files.
        known: the columns of the run that these files are added to.

    Raises UserError where no file has the columns, a kept column exists nowhere, or names leave a doubt.
    """
    named = parse_columns(mapping, ("review_id", "text"))
    check_keep(keep, uri)
    groups = _groups(described)
    _check_named(named, groups)
    reasons = _find_layouts(groups, named, keep, known is None)
    fitting = [each for each in groups if each.layout]
    types, notes = _types(fitting, keep, uri, known)
    layouts = list(known.layouts or (known.layout(0),)) if known else []
    numbers = {file.uri: len(layouts) + n for n, each in enumerate(fitting) for file, _ in each.files}
    layouts += [each.layout for each in fitting if each.layout]
    columns = Columns(
        review_id=known.review_id if known else layouts[0].review_id,
        text=known.text if known else layouts[0].text,
        keep=tuple(keep),
        types=types,
        layouts=tuple(layouts),
        root=known.root if known else root,
    )
    return Joined(columns=columns, numbers=numbers, reasons=reasons, notes=tuple(notes))


def _find_layouts(
    groups: Sequence[Group], named: dict[str, str], keep: Sequence[str], any_fits: bool
) -> dict[str, str]:
    """Finds each group's layout; returns, per file of a group without one, why. Raises UserError where `any_fits` is
    asked for and none does, and where only the user can tell which column is meant."""
    reasons: dict[str, str] = {}
    for each in groups:
        try:
            each.layout = _layout(each, named, keep)
            _check_ids(each)
        except DoubtError:
            raise
        except UserError as error:
            if len(groups) == 1 and any_fits:
                raise
            reason = _REMEDY.split(str(error).removeprefix(f"{each.first.uri}: "))[0]
            reasons |= {file.uri: reason for file, _ in each.files}
    if any_fits and not any(each.layout for each in groups):
        first = groups[0].first.uri
        raise UserError(f"{first}: {reasons[first]}; name it with --columns review_id=NAME,text=NAME")
    return reasons


def _groups(described: Sequence[Described]) -> list[Group]:
    """Files by kind, schema, dialect and folders."""
    groups: dict[object, Group] = {}
    for file, each in described:
        folders = tuple(storage.partition(file.uri, ""))
        key = (each.kind, each.schema.serialize().to_pybytes(), each.dialect, folders)
        group = groups.setdefault(key, Group(first=file, description=each, folders=folders))
        if each.rows and not group.description.rows:
            group.first, group.description = file, each
        group.files.append((file, each))
    return list(groups.values())


def _check_named(named: dict[str, str], groups: Sequence[Group]) -> None:
    """Raises UserError where a column that the user named is in no file."""
    for name in named.values():
        known = list(dict.fromkeys(other for each in groups for other in each.description.schema.names))
        found = name == NUMBERED or any(has_column(each.description.schema, name) for each in groups)
        check(found or not groups, f"{groups[0].first.uri if groups else ''}: no column {name!r}{closest(name, known)}")


def _layout(group: Group, named: dict[str, str], keep: Sequence[str]) -> Layout:
    schema, first = group.description.schema, group.first
    layout = find_layout(
        schema, named, keep, first.uri, group.folders, lambda names: peek(first, group.description, names)
    )
    repeated = twice(schema, [name for name in layout.keep if name])
    if repeated:
        raise DoubtError(f"{first.uri}: --keep {repeated}: several columns are called so; rename one")
    for name in layout.keep:
        twins = name in schema.names and has_twins(schema.field(name).type)
        check(not twins, f"{first.uri}: --keep {name}: it has two fields of one name; rename one, or do not keep it")
    return replace(layout, kind=group.description.kind, dialect=group.description.dialect)


def _check_ids(group: Group) -> None:
    """Raises UserError where the footers tell that ids are numbers whose digits were lost."""
    name = group.layout.review_id if group.layout else NUMBERED
    if name == NUMBERED:
        return
    of = group.description.schema.field(name).type
    for file, each in group.files:
        ends = [abs(end) for end in each.ranges.get(name, ()) if isinstance(end, (int, float))]
        most = EXCEL_DIGITS if each.kind == "xlsx" else EXACT if pa.types.is_floating(of) else None
        if most is not None and any(end > most for end in ends):
            raise DoubtError(
                f"{file.uri}: ids in {name!r} are {of} up to {max(ends):.15g}: their last digits are lost; write them "
                "as text or int64, or number the rows with --columns review_id=#"
            )


def _types(
    groups: Sequence[Group], keep: Sequence[str], uri: str, known: Columns | None
) -> tuple[pa.Schema, list[str]]:
    """The type of every kept column over all files, and a line for each whose types differ."""
    fields, notes = [], []
    for position, name in enumerate(keep):
        if name == "text":
            continue
        columns = [(each, each.layout.keep[position]) for each in groups if each.layout]
        if known is None and not any(column for _, column in columns):
            others = list(dict.fromkeys(n for each in groups for n in (*each.description.schema.names, *each.folders)))
            raise UserError(f"{uri}: --keep {name}: no such column{closest(name, others)}")
        seen, places = _seen(columns)
        if known and known.types is not None and name in known.types.names:
            before = known.types.field(name)
            seen.append(Seen(before.type, *_stored_range(before)))
            places[str(before.type)].insert(0, "the files before")
        to = common_type(seen)
        if len(places) > 1:
            notes.append(f"{name}: {', '.join(_place(of, files) for of, files in places.items())} -> {to}")
        fields.append(pa.field(name, to, metadata=_range_metadata(seen)))
    return pa.schema(fields), notes


def _place(of: str, files: Sequence[str]) -> str:
    shown = files[0].rpartition("/")[2]
    return f"{of} in {f'{len(files):,} files, such as {shown}' if len(files) > 1 else shown}"


def _seen(columns: Sequence[tuple[Group, str | None]]) -> tuple[list[Seen], "Places"]:
    """The types of a column with their ranges, and the files of each type. Files without rows have none."""
    seen: list[Seen] = []
    places = Places()
    with_rows = [(each, column) for each, column in columns if any(one.rows for _, one in each.files)]
    for each, column in with_rows or columns:
        files = [file.uri for file, one in each.files if one.rows or not with_rows]
        if column is None:
            places["null (no such column)"] += files
            continue
        of = pa.string() if column.startswith(HIVE) else each.description.schema.field(column).type
        places["null" if pa.types.is_null(of) else str(plain(of))] += files
        ends = [one.ranges.get(column) for _, one in each.files if one.rows]
        whole = [end for pair in ends if pair for end in pair]
        known = bool(ends) and all(ends)
        seen.append(Seen(of, min(whole), max(whole)) if known else Seen(of))  # type: ignore[type-var]
    return seen, places


class Places(dict[str, list[str]]):
    """Type -> the files whose column has it."""

    def __missing__(self, key: str) -> list[str]:
        self[key] = []
        return self[key]


def _range_metadata(seen: Sequence[Seen]) -> dict[bytes, bytes] | None:
    """The range of integers, as metadata of a field; None where it is not known."""
    ends = [end for one in seen for end in (one.low, one.high)]
    if not ends or not all(isinstance(end, int) for end in ends):
        return None
    numbers = [end for end in ends if isinstance(end, int)]
    return {LOW: str(min(numbers)).encode(), HIGH: str(max(numbers)).encode()}


def _stored_range(of: pa.Field) -> tuple[object, object]:
    stored = of.metadata or {}
    return (int(stored[LOW]), int(stored[HIGH])) if LOW in stored else (None, None)
