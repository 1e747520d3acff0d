"""Which column is the id and which is the text: decided by name, type and, where names leave a doubt, by values.

In: a file's schema, and a few of its rows. Out: a Layout. Raises UserError where columns are missing or in doubt, with
the file, the candidates with their values, and the flag that decides.
"""

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from ray_app.data.column_names import ID_TIERS, TEXT_TIERS, folded, role_names
from ray_app.data.column_types import is_nested, is_text
from ray_app.data.columns import HIVE, NUMBERED, RESERVED, Layout
from ray_app.data.values import texts
from ray_app.errors import UserError, check

Peek = Callable[[list[str]], pa.Table]  # columns -> a few of the file's rows
UNIQUE_NAMED, UNIQUE_VAGUE = 0.5, 0.9  # least share of different values in an id column of a sure and of a vague name
FEW = 4  # rows that tell nothing of uniqueness
LONGER = 2.0  # times as long as the others, on average, is the text
SHOWN = 3


class DoubtError(UserError):
    """Names, types and values leave a doubt: only the user knows."""


TIERS = {"review_id": ID_TIERS, "text": TEXT_TIERS}


def check_keep(keep: Sequence[str], uri: str) -> None:
    """Raises UserError where a kept column would have the name of another one, or of one that the analyses have.

    DuckDB, Spark and Hive do not tell names apart by their case.
    """
    for name in keep:
        reserved = name != "text" and name.casefold() in RESERVED
        check(not reserved, f"{uri}: --keep {name}: the analyses have a column of that name; rename it")
    names = [name.casefold() for name in keep]
    again = next((name for i, name in enumerate(keep) if names.index(name.casefold()) < i), "")
    check(not again, f"{uri}: --keep {again}: named twice, or another differs in case only; name one of them")


def find_layout(
    schema: pa.Schema,
    named: Mapping[str, str],
    keep: Sequence[str],
    uri: str,
    hive: Sequence[str] = (),
    peek: Peek | None = None,
) -> Layout:
    """The columns of a file; None for a kept name that it has no column for.

    Args:
        named: role -> column, as the user named them; a file without that column is searched by names.
        hive: names that the file's folders give values to.
        peek: a few rows, for names that leave a doubt.
    """
    review_id = named.get("review_id", "")
    if review_id != NUMBERED:
        review_id = _named(schema, review_id) or _found(schema, "review_id", uri, peek)
    text = _named(schema, named.get("text", "")) or _found(schema, "text", uri, peek)
    own = text == "text" or "text" not in schema.names or "text" not in keep
    check(own, f"{uri}: --keep text: the reviews are in {text!r}, and another column is called text; rename it")
    for role, name in (("review_id", review_id), ("text", text)):
        if name != NUMBERED:
            _check_single(schema, name, uri)
            _check_type(schema.field(name), role, uri)
    kept = tuple(_kept(schema, name, text, hive) for name in keep)
    return Layout(review_id=review_id, text=text, keep=kept)


def has_column(schema: pa.Schema, name: str) -> bool:
    """Whether the schema has a column of that name, whatever its case and spaces."""
    return _named(schema, name) is not None


def twice(schema: pa.Schema, keep: Sequence[str]) -> str | None:
    """The first kept name that several columns have."""
    return next((name for name in keep if schema.names.count(name) > 1), None)


def _check_single(schema: pa.Schema, name: str, uri: str) -> None:
    count = schema.names.count(name)
    if count > 1:
        raise DoubtError(f"{uri}: {count} columns are called {name!r}; rename one")


def _check_type(field: pa.Field, role: str, uri: str) -> None:
    """Raises UserError where values of the type can be no id, or no text."""
    identity = not is_nested(field.type) and not pa.types.is_boolean(field.type)
    fits = is_text(field.type) if role == "text" else identity
    what = "a text" if role == "text" else "an id"
    check(fits, f"{uri}: column {field.name!r} is {field.type}: not {what}; name another with --columns {role}=NAME")


def _named(schema: pa.Schema, name: str) -> str | None:
    """The column of that name, or the only one whose name differs in case, spaces and the like."""
    if not name or name in schema.names:
        return name or None
    alike = [other for other in schema.names if folded(other) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def _kept(schema: pa.Schema, name: str, text: str, hive: Sequence[str]) -> str | None:
    """The column that is kept as `name`: the one of that name, else the first with a name of that role."""
    if name == "text":
        return text
    if own := _named(schema, name):
        return own
    if folder := next((one for one in hive if folded(one) == folded(name)), None):
        return HIVE + folder
    by_fold = {folded(other): other for other in reversed(schema.names)}
    return next((by_fold[folded(other)] for other in role_names(name) if folded(other) in by_fold), None)


def _found(schema: pa.Schema, role: str, uri: str, peek: Peek | None) -> str:
    """The column for a role by the surest names that the schema has, and by its values where several have one."""
    for number, tier in enumerate(TIERS[role]):
        names = _candidates(schema, tier, role)
        if not names:
            continue
        for name in names:
            _check_single(schema, name, uri)
        if number == 0 or peek is None or (role == "text" and len(names) == 1):
            return names[0]
        return _unique(peek(names), names, number, uri) if role == "review_id" else _longest(peek(names), names, uri)
    unfit = [f for f in schema if any(folded(f.name) == folded(name) for tier in TIERS[role] for name in tier)]
    because = "".join(f"; {field.name} is {field.type}" for field in unfit[:SHOWN])
    raise UserError(
        f"{uri}: no {role} column among {_listed(schema.names)}{because}; name it with --columns {role}=NAME{_or(role)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _or(role: str) -> str:
    return ", or number the rows with --columns review_id=#" if role == "review_id" else ""


def _candidates(schema: pa.Schema, tier: Sequence[str], role: str) -> list[str]:
    """Columns with a name of the tier and a type that fits, in the tier's order; the name as written goes first."""
    fits = [f.name for f in schema if is_text(f.type) or (role == "review_id" and _countable(f.type))]
    found: list[str] = []
    for name in tier:
        alike = [other for other in fits if folded(other) == folded(name)]
        found += [name] if name in alike else alike[:1]
    return list(dict.fromkeys(found))


def _countable(of: pa.DataType) -> bool:
    """Types whose values ids may be: no flags, no moments."""
    return not (is_nested(of) or pa.types.is_boolean(of) or pa.types.is_temporal(of))


def _unique(rows: pa.Table, names: Sequence[str], tier: int, uri: str) -> str:
    """The first candidate whose values differ, as ids do. Raises UserError where none does."""
    least = UNIQUE_NAMED if tier == 1 else UNIQUE_VAGUE
    for name in names:
        values = [value for value in texts(rows[name]) if value]
        if len(values) < FEW or len(set(values)) >= least * len(values):
            return name
    raise DoubtError(
        f"{uri}: ids repeat in {_with_values(rows, names)}; name the reviews' own with --columns review_id=NAME"
        f"{_or('review_id')}"
    )


def _longest(rows: pa.Table, names: Sequence[str], uri: str) -> str:
    """The candidate whose values are far longer than the others'. Raises UserError where none's are."""
    lengths = {name: sum(len(value or "") for value in texts(rows[name])) for name in names}
    first, second = sorted(names, key=lambda name: -lengths[name])[:2]
    if not len(rows) or lengths[first] >= LONGER * lengths[second]:
        return first
    raise DoubtError(f"{uri}: the text is in one of {_with_values(rows, names)}; name it with --columns text=NAME")


def _with_values(rows: pa.Table, names: Sequence[str]) -> str:
    """`id (u1, u1, u2), no (1, 2, 3)`."""
    return ", ".join(
        f"{name} ({', '.join((value or 'null')[:20] for value in texts(rows[name].slice(0, SHOWN)))})" for name in names
    )
