"""Values that partitions of an output have choked on, and tables of them."""

import math
import random
from typing import Any

import pyarrow as pa

HIVE = "__HIVE_DEFAULT_PARTITION__"
TEXTS = [
    *("", None, HIVE, f"%5F{HIVE[1:]}", "null", "NULL", "None", "nan", "NaN", "A", "a", "true", "00123", "123", "1e5"),
    *(
        "\u212b",
        "\u00c5",
        "A\u030a",
        "가",
        "\u1100\u1161",
        " 무신사 ",
        "무신사",
        "2026-01-01",
        "A/B",
        "A%2FB",
        "A=B",
        "=",
    ),
    *("=", "..", ".", "../../etc", "_x", ".x", "a\nb", "a\0b", "[1+1] 셔츠", "*", "~", "😀", "\ufeff", "\u200b", "con"),
    *("가" * 70, "가" * 71, "x" * 300, "%" * 90, ("가" * 66) + "~0", "a" * 200),
]
FAR = [math.inf, -math.inf, 1e300, 5e-324, 2.0**53, 2.0**53 + 2]
NUMBERS: list[Any] = [0.0, -0.0, math.nan, None, 1.0, 1.5, -1.0, *FAR]
INTEGERS = [None, 0, -1, 1, 2**62, -(2**63)]
KINDS: list[tuple[list[Any], list[pa.DataType]]] = [
    (TEXTS, [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]),
    (NUMBERS, [pa.float64(), pa.float32()]),
    (INTEGERS, [pa.int64()]),
    ([None, True, False], [pa.bool_()]),
    (
        [None, 0, 1, -1, 10**15],
        [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms", "Asia/Seoul"), pa.duration("us")],
    ),
    ([None, 0, 1, -1], [pa.date32()]),
]


def column(seed: int) -> pa.Array:
    """A column of 0 to 12 values of one type."""
    chance = random.Random(seed)
    values, types = chance.choice(KINDS)
    of = chance.choice(types)
    some = [chance.choice(values) for _ in range(chance.randrange(13))]
    if pa.types.is_float32(of):
        some = [None if value is None or (abs(value) > 1e38 and math.isfinite(value)) else value for value in some]
    return pa.array(some, of)
