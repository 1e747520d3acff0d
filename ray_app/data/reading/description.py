"""What is known of a file before any of its rows is analyzed."""

from dataclasses import dataclass, field

import pyarrow as pa

from ray_app.data.columns import Dialect
from ray_app.data.reading.units import Chunk


@dataclass(frozen=True, kw_only=True)
class Description:
    """A file's kind, columns and chunks; `ranges` are the least and greatest values of its columns, where known.

    `dialect` says how a text file or a sheet is read; `remarks` are lines for the user, such as about other sheets.
    """

    kind: str
    schema: pa.Schema
    chunks: tuple[Chunk, ...]
    ranges: dict[str, tuple[object, object]] = field(default_factory=dict)
    dialect: Dialect | None = None
    remarks: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all chunks."""
        return sum(chunk.rows for chunk in self.chunks)
