"""One type for a column that has several: the types of all files -> the narrowest that holds every value exactly.

In: Arrow types, with the least and greatest value where the files' footers tell them. Out: a plain Arrow type. Where no
number or moment holds all values exactly the type is text: nothing is rounded, shifted or cut in silence.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple

import pyarrow as pa

EXACT = 2**53  # integers up to this are doubles exactly
NANOSECOND_YEARS = (1678, 2261)  # whole years that 64 bits of nanoseconds reach
UNITS = ("s", "ms", "us", "ns")
DIGITS = 76  # of the widest decimal
UUID_BYTES = 16


class Seen(NamedTuple):
    """A column's type in some files, and the range of its values; None: unknown."""

    type: pa.DataType
    low: object = None
    high: object = None


def plain(of: pa.DataType) -> pa.DataType:
    """The type without its encoding: dictionaries, views, large types, run ends and extensions hold the same values."""
    kinds = pa.types
    if isinstance(of, pa.BaseExtensionType):
        return pa.string() if of.extension_name == "arrow.uuid" else plain(of.storage_type)
    if kinds.is_dictionary(of) or kinds.is_run_end_encoded(of):
        return plain(of.value_type)
    if kinds.is_large_string(of) or kinds.is_string_view(of):
        return pa.string()
    if kinds.is_large_binary(of) or kinds.is_binary_view(of):
        return pa.binary()
    if is_list(of):
        return pa.list_(plain(of.value_type))
    if kinds.is_struct(of):
        return pa.struct([(field.name, plain(field.type)) for field in of])
    if kinds.is_map(of):
        return pa.map_(plain(of.key_type), plain(of.item_type))
    return of


def common_type(seen: Sequence[Seen]) -> pa.DataType:
    """The type that holds every value of the types `seen` exactly; text where only text does, or nothing is known."""
    types = list(dict.fromkeys(plain(one.type) for one in seen if not pa.types.is_null(plain(one.type))))
    if not types:
        return pa.string()
    if len(types) == 1:
        return types[0]
    families = {_family(one) for one in types}
    meet = next((join for known, join in _JOINS if families <= known), None)
    known = [Seen(plain(one.type), one.low, one.high) for one in seen if not pa.types.is_null(plain(one.type))]
    return meet(known) if meet else pa.string()


def is_list(of: pa.DataType) -> bool:
    """True for every kind of list."""
    kinds = pa.types
    tests = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list, kinds.is_list_view, kinds.is_large_list_view)
    return any(test(of) for test in tests)


def is_nested(of: pa.DataType) -> bool:
    """True for a type whose values have parts: no id, no folder's name."""
    of = plain(of)
    return bool(is_list(of) or pa.types.is_struct(of) or pa.types.is_map(of) or pa.types.is_union(of))


def has_twins(of: pa.DataType) -> bool:
    """True for a struct, at any depth, with two fields of one name: readers take one for the other."""
    of = plain(of)
    names = [field.name for field in of] if pa.types.is_struct(of) else []
    parts = [of.field(i).type for i in range(of.num_fields)]
    return len(set(names)) < len(names) or any(has_twins(part) for part in parts)


def is_text(of: pa.DataType) -> bool:
    """True for strings, for bytes, which older writers use for strings, and for a column of nulls only."""
    of = plain(of)
    return bool(pa.types.is_string(of) or pa.types.is_binary(of) or pa.types.is_null(of))


def _family(of: pa.DataType) -> str:
    """Types of one family differ in width, unit or scale only; text for a type that no join knows."""
    kinds = pa.types
    tests: dict[str, Callable[[pa.DataType], bool]] = {
        "integer": kinds.is_integer,
        "floating": kinds.is_floating,
        "decimal": kinds.is_decimal,
        "moment": lambda t: kinds.is_date(t) or (kinds.is_timestamp(t) and t.tz is None),
        "instant": lambda t: kinds.is_timestamp(t) and t.tz is not None,
        "time": kinds.is_time,
        "duration": kinds.is_duration,
        "string": lambda t: kinds.is_string(t) or kinds.is_binary(t),
        "list": is_list,
        "struct": kinds.is_struct,
        "map": kinds.is_map,
    }
    return next((name for name, test in tests.items() if test(of)), str(of))


def _integers(seen: Sequence[Seen]) -> pa.DataType:
    """The narrowest integer; a decimal of 20 digits where only that holds both uint64 and negative numbers."""
    types = [one.type for one in seen]
    signed = [t.bit_width for t in types if pa.types.is_signed_integer(t)]
    unsigned = [t.bit_width for t in types if not pa.types.is_signed_integer(t)]
    if not signed:
        return {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[max(unsigned)]
    width = max([*signed, *(2 * one for one in unsigned)])
    return {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width, pa.decimal128(20, 0))


def _numbers(seen: Sequence[Seen]) -> pa.DataType:
    """A double, unless an integer may be beyond what doubles hold exactly."""
    if all(pa.types.is_floating(one.type) for one in seen):
        return max((one.type for one in seen), key=lambda t: int(t.bit_width))
    for one in seen:
        if not pa.types.is_integer(one.type) or one.type.bit_width <= 32:
            continue
        ends = (one.low, one.high)
        if not all(isinstance(end, int) and abs(end) <= EXACT for end in ends):
            return pa.string()
    return pa.float64()


def _decimals(seen: Sequence[Seen]) -> pa.DataType:
    """A decimal with the most digits before and after the point; an integer of 64 bits has 19 or 20 before it."""
    digits = {8: 3, 16: 5, 32: 10}
    whole = after = 0
    for one in (each.type for each in seen):
        integer = pa.types.is_integer(one)
        scale = 0 if integer else one.scale
        before = digits.get(one.bit_width, 20 if pa.types.is_unsigned_integer(one) else 19) if integer else 0
        whole, after = max(whole, before or one.precision - scale), max(after, scale)
    if whole + after > DIGITS:
        return pa.string()
    return pa.decimal128(whole + after, after) if whole + after <= 38 else pa.decimal256(whole + after, after)


def _moments(seen: Sequence[Seen]) -> pa.DataType:
    """Local dates and times: the finest unit. Nanoseconds reach 1678 to 2261, so the others' range must be known."""
    if all(pa.types.is_date32(one.type) for one in seen):
        return pa.date32()
    units = [one.type.unit if pa.types.is_timestamp(one.type) else "ms" for one in seen]
    unit = max(units, key=UNITS.index)
    within = all(_unit(one.type) == "ns" or _in_nanoseconds(one) for one in seen)
    return pa.timestamp(unit) if unit != "ns" or within else pa.string()


def _instants(seen: Sequence[Seen]) -> pa.DataType:
    """Moments with time zones: the finest unit, in UTC where the zones differ."""
    zones = {one.type.tz for one in seen}
    local = _moments([Seen(pa.timestamp(one.type.unit), one.low, one.high) for one in seen])
    return local if pa.types.is_string(local) else pa.timestamp(local.unit, zones.pop() if len(zones) == 1 else "UTC")


def _unit(of: pa.DataType) -> str:
    return str(of.unit) if pa.types.is_timestamp(of) else ""


def _in_nanoseconds(one: Seen) -> bool:
    ends = [end for end in (one.low, one.high) if isinstance(end, (date, datetime))]
    return len(ends) == 2 and all(NANOSECOND_YEARS[0] <= end.year <= NANOSECOND_YEARS[1] for end in ends)


def _times(seen: Sequence[Seen]) -> pa.DataType:
    unit = max((one.type.unit for one in seen), key=UNITS.index)
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _durations(seen: Sequence[Seen]) -> pa.DataType:
    return pa.duration(max((one.type.unit for one in seen), key=UNITS.index))


def _lists(seen: Sequence[Seen]) -> pa.DataType:
    return pa.list_(common_type([Seen(one.type.value_type) for one in seen]))


def _structs(seen: Sequence[Seen]) -> pa.DataType:
    """All fields of all of them, in the order in which they first appear."""
    fields: dict[str, list[Seen]] = {}
    for one in seen:
        for field in one.type:
            fields.setdefault(field.name, []).append(Seen(field.type))
    return pa.struct([(name, common_type(types)) for name, types in fields.items()])


def _maps(seen: Sequence[Seen]) -> pa.DataType:
    keys, items = [Seen(one.type.key_type) for one in seen], [Seen(one.type.item_type) for one in seen]
    return pa.map_(common_type(keys), common_type(items))


_JOINS: list[tuple[set[str], Callable[[Sequence[Seen]], pa.DataType]]] = [
    ({"integer"}, _integers),
    ({"integer", "floating"}, _numbers),
    ({"integer", "decimal"}, _decimals),
    ({"moment"}, _moments),
    ({"instant"}, _instants),
    ({"time"}, _times),
    ({"duration"}, _durations),
    ({"string"}, lambda seen: pa.string()),
    ({"list"}, _lists),
    ({"struct"}, _structs),
    ({"map"}, _maps),
]
