"""Units of work: bounded ranges of rows of files, each with an id that depends on them and on what analyzes them.

In: per file, its chunks (row groups, ranges of bytes) and their rows. Out: Units of one piece, or of several where the
pieces are tiny.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SHARE = 4  # tiny pieces share a unit until it has 1/SHARE of the most rows: one of many small files stays parallel


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows [first, first + rows) of one version of a file: `rows` rows of `row_group` after the first `skip`.

    `start` is the offset in bytes at which the rows of a text file begin; `layout` is the number of the file's layout.
    """

    file: str
    version: str
    row_group: int
    skip: int
    first: int
    rows: int
    layout: int = 0
    start: int = 0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is analyzed and committed as one: pieces, nearly always a single one."""

    id: str
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """Rows of all pieces."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def head(self) -> Piece:
        """The first piece, by which messages name the unit."""
        return self.pieces[0]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of a file that is read from its beginning: a row group, or a range of rows of a text file."""

    rows: int
    row_group: int = 0
    start: int = 0


def row_of(unit: Unit) -> dict[str, Any]:
    """A unit as a row of a table: `dataclasses.asdict` copies every value, which costs more than reading tiny files."""
    return {"id": unit.id, "pieces": [vars(piece) for piece in unit.pieces]}


def unit_of(row: Mapping[str, Any]) -> Unit:
    """The Unit that `row_of` made a row of."""
    return Unit(id=row["id"], pieces=tuple(Piece(**piece) for piece in row["pieces"]))


def cut(file: str, version: str, chunks: Iterable[Chunk], most: int, layout: int) -> list[Piece]:
    """Cuts the chunks of a file into pieces of at most `most` rows."""
    pieces, first = [], 0
    for chunk in chunks:
        for skip in range(0, chunk.rows, most):
            pieces.append(
                Piece(
                    file=file,
                    version=version,
                    row_group=chunk.row_group,
                    skip=skip,
                    first=first + skip,
                    rows=min(most, chunk.rows - skip),
                    layout=layout,
                    start=chunk.start,
                )
            )
        first += chunk.rows
    return pieces


def group(pieces: Sequence[Piece], most: int, fingerprint: str) -> list[Unit]:
    """Pieces as units: one each, except that neighbors share one while it stays below `most` / SHARE rows."""
    units: list[list[Piece]] = []
    shared = most  # rows of the last unit
    for piece in pieces:
        if (shared + piece.rows) * SHARE <= most:
            units[-1].append(piece)
            shared += piece.rows
        else:
            units.append([piece])
            shared = piece.rows
    return [_unit(tuple(unit), fingerprint) for unit in units]


def limited(units: Sequence[Unit], limit: int) -> tuple[Unit, ...]:
    """The units of the first `limit` rows, the last one cut; all where `limit` is 0."""
    if not limit:
        return tuple(units)
    kept: list[Unit] = []
    left = limit
    for unit in units:
        if left <= 0:
            break
        kept.append(unit if unit.rows <= left else _cut_unit(unit, left))
        left -= unit.rows
    return tuple(kept)


def _cut_unit(unit: Unit, rows: int) -> Unit:
    pieces, left = [], rows
    for piece in unit.pieces:
        if left > 0:
            pieces.append(replace(piece, rows=min(piece.rows, left)))
        left -= piece.rows
    return Unit(id=f"{unit.id}-{rows}", pieces=tuple(pieces))


def _unit(pieces: tuple[Piece, ...], fingerprint: str) -> Unit:
    """A unit with one piece has the id that it has always had."""
    keys = [f"{p.file}|{p.version}|{p.row_group}|{p.skip}|{p.rows}" for p in pieces]
    if len(pieces) == 1 and pieces[0].start:
        keys.append(str(pieces[0].start))
    text = "|".join([*keys, fingerprint])
    return Unit(id=hashlib.sha256(text.encode()).hexdigest()[:16], pieces=pieces)
