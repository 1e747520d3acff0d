"""The folders of a partitioned output: the values of a column -> folder names, as Hive writes them.

In: the partition column of a unit. Out: per folder its rows. Rows are grouped by the folder's name, not by value: null,
NaN and the empty text share Hive's default folder, and no two values can overwrite one another.
"""

import hashlib

import numpy as np
import pyarrow as pa

from ray_app import storage
from ray_app.data.column_types import is_nested
from ray_app.data.values import texts
from ray_app.errors import check
from ray_app.storage import LONGEST_NAME

SHOWN = 40  # characters of a long value that are shown
MARK = "~"  # before the hash of a value that is too long for a name


def check_partition(name: str, of: pa.DataType) -> None:
    """Raises UserError where values of the type make no folder names."""
    fits = not is_nested(of) and not pa.types.is_binary(of) and not pa.types.is_fixed_size_binary(of)
    check(
        fits, f"--partition-by {name}: its values are {of}, which make no folder names; use a column of text or numbers"
    )


def rows_by_folder(values: pa.ChunkedArray, column: str) -> dict[str, pa.Array]:
    """Folder name -> the numbers of its rows, ascending."""
    names = [folder_name(text) for text in texts(values)]
    folders: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        folders.setdefault(f"{storage.safe_name(column)}={name}", []).append(row)
    return {folder: pa.array(np.asarray(rows, np.int64)) for folder, rows in folders.items()}


def folder_name(text: str | None) -> str:
    """A value's part of a folder's name. A value that is too long for one is cut, and its hash appended."""
    if text is None or not _long(text):
        return storage.safe_name(text or "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    cut = text
    while _long(cut + MARK + digest):
        cut = cut[: len(cut) - max(1, len(cut) // 20)]
    return storage.safe_name(cut + MARK + digest)


def shortened(values: pa.ChunkedArray) -> dict[str, str]:
    """Folder name -> beginning of the value, of the values that are too long for a name."""
    return {folder_name(text): text[:SHOWN] for text in set(texts(values)) if text and _long(text)}


def _long(text: str) -> bool:
    return len(storage.safe_name(text, LONGEST_NAME * len(text) + 1).encode()) > LONGEST_NAME
