"""Values in one exact form: any value as text, any array in another type that holds its values, bytes as text.

In: Arrow arrays of any type, also with bytes that are no UTF-8. Out: texts, arrays. Nothing is rounded or dropped: what
a type cannot hold raises, and bytes that are no UTF-8 become `\\xb0\\xa1`.
"""

import json
import math
import uuid
from collections import Counter
from datetime import date, datetime, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_app.data.column_types import EXACT, UUID_BYTES, is_list, plain

Scalar = object  # a Python value, as `to_pylist` gives it


def python_values(column: pa.Array | pa.ChunkedArray) -> list[Scalar]:
    """Python values; bytes become text where they are UTF-8 and stay bytes where not. Equal texts of a dictionary are
    one object: a text of many megabytes that a million rows share is in memory once."""
    array = _combined(column)
    if isinstance(array.type, pa.BaseExtensionType):
        uuids = array.type.extension_name == "arrow.uuid"
        return [str(v) if uuids and v is not None else v for v in array.to_pylist()]
    if pa.types.is_dictionary(array.type):
        used = pc.unique(array.indices).drop_null()  # a dictionary may hold the values of many more rows
        values = dict(zip(used.to_pylist(), python_values(array.dictionary.take(used)), strict=True))
        return [None if i is None else values[i] for i in array.indices.to_pylist()]
    if pa.types.is_string(plain(array.type)) or pa.types.is_binary(plain(array.type)):
        return [_decoded(value) for value in _bytes(array)]
    try:
        return list(array.to_pylist())
    except (OverflowError, ValueError):  # a moment that Python's calendar does not reach: its count of units
        return list(array.view(pa.int64() if array.type.bit_width == 64 else pa.int32()).to_pylist())


def text_of(value: Scalar) -> str | None:
    """The one text of a value: integral numbers as integers, decimals without trailing zeros, UUIDs as such.

    None for null and NaN. Text and bytes stay as they are, bytes that are no UTF-8 escaped.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) <= EXACT else repr(value)
    if isinstance(value, Decimal):
        digits = f"{value:f}" if value else "0"  # `normalize` would round it to 28 digits
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=text_of)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def integral(text: str) -> str:
    """`12` of `12.0`, as pandas writes an integer of a column with gaps; other texts as they are."""
    return text[:-2] if text.endswith(".0") and text[:-2].isdecimal() else text


def uuid_text(value: bytes) -> str:
    """16 bytes as a UUID."""
    return str(uuid.UUID(bytes=value))


def texts(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """`text_of` every value; 16 bytes of fixed width are a UUID."""
    values = python_values(column)
    if pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == UUID_BYTES:
        return [uuid_text(value) if isinstance(value, bytes) else None for value in values]
    return [text_of(value) for value in values]


def conform(column: pa.Array | pa.ChunkedArray, to: pa.DataType, repaired: Counter[str], name: str = "") -> pa.Array:
    """The values in the type `to`, which `column_types.common_type` made of theirs.

    Text that is not UTF-8 is escaped, and counted in `repaired` under `name`. Raises pa.ArrowInvalid where a value does
    not fit.
    """
    array = _combined(column)
    if isinstance(array.type, pa.BaseExtensionType):
        array = pa.array(texts(array), pa.string()) if array.type.extension_name == "arrow.uuid" else array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), to)
    if pa.types.is_string(plain(to)):
        return _text_array(array, repaired, name).cast(to)
    if is_list(to) and is_list(array.type):
        return _lists(array, to, repaired, name)
    if pa.types.is_struct(to) and pa.types.is_struct(array.type):
        return _structs(array, to, repaired, name)
    return array if array.type == to else array.cast(to)


def _text_array(array: pa.Array, repaired: Counter[str], name: str) -> pa.Array:
    """The values as valid UTF-8."""
    kind = plain(array.type)
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return pa.array(texts(array), pa.string())
    if pa.types.is_string(array.type) and _is_utf8(array):
        return array
    values = [_decoded(value) for value in _bytes(array)]
    repaired[name] += sum(isinstance(value, bytes) for value in values)
    return pa.array([text_of(value) for value in values], pa.string())


def _lists(array: pa.Array, to: pa.DataType, repaired: Counter[str], name: str) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    items = conform(pc.list_flatten(array), to.value_type, repaired, name)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    result = pa.ListArray.from_arrays(offsets, items, mask=array.is_null() if array.null_count else None)
    return result.cast(to) if result.type != to else result


def _structs(array: pa.Array, to: pa.DataType, repaired: Counter[str], name: str) -> pa.Array:
    children = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
    columns = [
        conform(children[field.name], field.type, repaired, name)
        if field.name in children
        else pa.nulls(len(array), field.type)
        for field in to
    ]
    return pa.StructArray.from_arrays(columns, fields=list(to), mask=array.is_null() if array.null_count else None)


def _is_utf8(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, pa.null()).cast(plain(column.type))


def _bytes(array: pa.Array) -> list[bytes | None]:
    """The bytes of strings that may be no UTF-8."""
    if pa.types.is_string_view(array.type):
        array = pc.cast(array, options=pc.CastOptions(target_type=pa.string(), allow_invalid_utf8=True))
    if pa.types.is_fixed_size_binary(array.type):
        return list(array.to_pylist())
    return list(array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()).to_pylist())


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value
