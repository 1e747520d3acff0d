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

LONGEST_FOLDER, LEAST_ROOM = 255, 40  # bytes: of any file system's names, of a value with its hash
SHOWN = 40  # characters of a long value that are shown
MARK = "~"  # before the hash of a value that is too long for a name


def check_partition(name: str, of: pa.DataType) -> None:
    """Raises UserError where values of the type make no folder names, or the column's name leaves no room for them."""
    fits = not is_nested(of) and not pa.types.is_binary(of) and not pa.types.is_fixed_size_binary(of)
    check(
        fits, f"--partition-by {name}: its values are {of}, which make no folder names; use a column of text or numbers"
    )
    check(_room(name) >= LEAST_ROOM, f"--partition-by {name[:20]}…: a name too long for a folder's; rename the column")


def rows_by_folder(values: pa.ChunkedArray, column: str) -> dict[str, pa.Array]:
    """Folder name -> the numbers of its rows, ascending."""
    room = _room(column)
    folders: dict[str, list[int]] = {}
    for row, text in enumerate(texts(values)):
        folders.setdefault(f"{storage.safe_name(column)}={folder_name(text, room)}", []).append(row)
    return {folder: pa.array(np.asarray(rows, np.int64)) for folder, rows in folders.items()}


def folder_name(text: str | None, room: int = LONGEST_NAME) -> str:
    """A value's part of a folder's name, at most `room` bytes. A value that is longer is cut, and its hash appended."""
    if text is None or _bytes(text) <= room:
        return storage.safe_name(text or "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    cut = text
    while _bytes(cut + MARK + digest) > room:
        cut = cut[: len(cut) - max(1, len(cut) // 20)]
    return storage.safe_name(cut + MARK + digest)


def shortened(values: pa.ChunkedArray, column: str) -> dict[str, str]:
    """Folder name -> beginning of the value, of the values that are too long for a name."""
    room = _room(column)
    return {folder_name(text, room): text[:SHOWN] for text in set(texts(values)) if text and _bytes(text) > room}


def _room(column: str) -> int:
    """Bytes that `column=` leaves for a value in a folder's name."""
    return min(LONGEST_NAME, LONGEST_FOLDER - _bytes(column) - 1)


def _bytes(text: str) -> int:
    """Bytes of a text as a name."""
    return len(storage.safe_name(text, LONGEST_NAME * len(text) + 1).encode())
