"""A catalog as units of work, and the rows of a unit: accepted, or rejected with the reason.

In: `--input`, `--columns`, `--keep`. Out: a Plan, from footers and, for text files, one scan; a unit's accepted and
rejected rows. A unit's id depends on its file, the file's version, its rows, and what analyzes it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from ray_app import sample, storage
from ray_app.arrays import evenly
from ray_app.data.columns import Columns, split_rows
from ray_app.data.reading import files, inputs
from ray_app.data.reading.description import Description
from ray_app.data.reading.inputs import THREADS, Found
from ray_app.data.reading.joined import join
from ray_app.data.reading.streams import UnreadableError
from ray_app.data.reading.units import Piece, Unit, cut, group, limited, row_of, unit_of
from ray_app.data.schema import NONE_REJECTED, rejected_unit
from ray_app.errors import UserError, first_line

__all__ = [
    "THREADS",
    "Piece",
    "Plan",
    "Source",
    "Unit",
    "UnitRows",
    "plan",
    "read",
    "read_units",
    "readings",
    "row_of",
    "unit_of",
]
SAMPLED = 16  # units that a sample of texts is taken from
MOST_READ, MOST_GROUPS = 1_000, 16  # units of one reading: in one row group, in several
UNREADABLE = "unreadable"  # begins the reason of a whole file or piece
CHANGED = "the file was changed or removed after the run was planned"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of the input: its version, its number of rows, and why it cannot be read (None: it can)."""

    file: str
    version: str
    rows: int
    reason: str | None = None


@dataclass(frozen=True)
class Plan:
    """The input's files, their units in the same order, the columns to read, and lines that the user should see."""

    sources: tuple[Source, ...]
    units: tuple[Unit, ...]
    columns: Columns
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    @property
    def unreadable(self) -> list[Source]:
        """The files that cannot be read."""
        return [source for source in self.sources if source.reason]


@dataclass(frozen=True, kw_only=True)
class UnitRows:
    """A unit's accepted rows, None where it could not be read at all, its rejected rows, and per kept column how many
    values were not UTF-8."""

    unit: Unit
    accepted: pa.Table | None
    rejected: pa.Table
    repaired: dict[str, int]


def resolve_input(uri: str) -> str:
    """An input's paths, independent of the working directory; `sample` is the shipped catalog."""
    return ",".join(inputs.split(str(sample.CATALOG) if uri == "sample" else uri))


def input_versions(uri: str) -> dict[str, str]:
    """The version of every file that lies in an input's folders now, whether it is read or not."""
    return {file.uri: file.version for folder in inputs.folders(uri) for _, file in storage.walk(folder)}


def read_first_texts(uri: str, mapping: str, count: int) -> list[str]:
    """The first `count` accepted reviews of an input; `mapping` is `--columns`. Raises UserError as `plan` does."""
    planned = plan(resolve_input(uri), mapping, (), 2_000, "")
    texts: list[str] = []
    for rows in read_units(planned.units, planned.columns):
        texts += rows.accepted["text"].to_pylist() if rows.accepted is not None else []
        if len(texts) >= count:
            break
    return texts[:count]


def sampled_texts(uri: str, mapping: str, count: int) -> list[str]:
    """`sample_texts` of an input; `mapping` is `--columns`. Raises UserError as `plan` does."""
    planned = plan(resolve_input(uri), mapping, (), 2_000, "")
    return sample_texts(planned.units, planned.columns, count)


def sample_texts(units: Sequence[Unit], columns: Columns, count: int) -> list[str]:
    """Up to `count` accepted texts, evenly out of SAMPLED units from the first to the last."""
    texts: list[str] = []
    positions = evenly(len(units), SAMPLED)
    for position in positions:
        accepted, _ = read(units[position], columns)
        if accepted is not None and len(accepted):
            rows = evenly(len(accepted), max(1, count // len(positions)))
            texts += accepted["text"].take(rows).to_pylist()
    return texts


def plan(
    uri: str,
    mapping: str,
    keep: Sequence[str],
    unit_rows: int,
    fingerprint: str,
    limit: int = 0,
    known: Columns | None = None,
    done: frozenset[str] = frozenset(),
) -> Plan:
    """Plans an input: lists it, reads footers, scans text files, joins the columns, cuts units.

    Args:
        mapping, keep: `--columns` and `--keep`.
        unit_rows: most rows per unit.
        fingerprint: identifies what analyzes the units; a part of their ids.
        limit: rows to plan, 0 for all.
        known: the columns of the run that this input is added to.
        done: files to leave out.

    Raises UserError where nothing can be read, where columns are missing or where names leave a doubt.
    """
    found = inputs.find(uri)
    new = [file for file in found.files if file.info.uri not in done]
    with ThreadPoolExecutor(THREADS) as pool:
        described = list(pool.map(lambda file: files.describe(file.info, file.kind, unit_rows), new))
    readable = [(file.info, one) for file, one in zip(new, described, strict=True) if isinstance(one, Description)]
    if not readable and known is None:
        raise UserError(f"{uri}: no readable file; the first: {described[0]}")
    joined = join(readable, mapping, keep, uri, found.root, known)
    sources: list[Source] = []
    pieces: list[Piece] = []
    for file, one in zip(new, described, strict=True):
        name, version = file.info.uri, file.info.version
        reason = one if isinstance(one, str) else joined.reasons.get(name)
        chunks = () if isinstance(one, str) or reason else one.chunks
        sources.append(Source(file=name, version=version, rows=sum(c.rows for c in chunks), reason=reason))
        pieces += cut(name, version, chunks, unit_rows, joined.numbers.get(name, 0))
    units = limited(group(pieces, unit_rows, fingerprint), limit)
    return Plan(tuple(sources), units, joined.columns, (*_notes(found, readable), *joined.notes))


def _notes(found: Found, readable: Sequence[tuple[storage.FileInfo, Description]]) -> Iterator[str]:
    yield from found.describe()
    yield from (f"{file.uri}: {remark}" for file, one in readable for remark in one.remarks)


def readings(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units that are read in one go: all in one row group or text file, a few of small row groups in one file."""
    reading: list[Unit] = []
    for unit in units:
        before = reading[-1].pieces[-1] if reading else None
        piece = unit.pieces[0]
        together = before and piece.file == before.file and len(unit.pieces) == 1
        most = MOST_READ if before and piece.row_group == before.row_group else MOST_GROUPS
        if reading and (not together or len(reading) >= most):
            yield reading
            reading = []
        reading.append(unit)
    if reading:
        yield reading


def read(unit: Unit, columns: Columns) -> tuple[pa.Table | None, pa.Table]:
    """A unit's accepted and rejected rows; accepted is None where the unit could not be read at all.

    Raises UnavailableError where storage does not answer: that is no reason to reject rows.
    """
    rows = next(read_units([unit], columns))
    return rows.accepted, rows.rejected


def read_units(units: Sequence[Unit], columns: Columns) -> Iterator[UnitRows]:
    """`read` of each unit, in order: a row group, or a text file, is read once for all of its units in a row."""
    found = _read_pieces([piece for unit in units for piece in unit.pieces], columns)
    for unit in units:
        repaired: Counter[str] = Counter()
        accepted, rejected = [], [NONE_REJECTED]
        for _ in unit.pieces:
            some, bad, mended = next(found)
            accepted += [some] if some is not None else []
            rejected.append(bad)
            repaired += mended
        yield UnitRows(
            unit=unit,
            accepted=pa.concat_tables(accepted) if accepted else None,
            rejected=pa.concat_tables(rejected),
            repaired=dict(repaired),
        )


def _read_pieces(pieces: Sequence[Piece], columns: Columns) -> Iterator[tuple[pa.Table | None, pa.Table, Counter[str]]]:
    """Per piece its accepted rows with their file and row, its rejected rows, and the values that were mended."""
    for run in files.runs(pieces):
        left, reason = list(run), ""
        while left:
            try:
                for raw, bad in files.raw_tables(list(left), columns.layout(left[0].layout)):
                    piece, repaired = left.pop(0), Counter[str]()
                    layout = columns.layout(piece.layout)
                    some, rejected = split_rows(raw, columns, piece.file, piece.first, layout, bad, repaired)
                    yield _placed(some, rejected, piece), rejected, repaired
            except (storage.ChangedError, storage.MissingError):
                reason = CHANGED
            except (pa.ArrowException, OSError, UnreadableError) as error:
                reason = f"{UNREADABLE} rows: {first_line(error)}"
            failed = left[0].row_group if left else 0
            while left and left[0].row_group == failed:  # other row groups may be whole
                piece = left.pop(0)
                yield None, rejected_unit(piece.file, piece.first, reason, piece.rows), Counter()


def _placed(accepted: pa.Table, rejected: pa.Table, piece: Piece) -> pa.Table:
    """The accepted rows with the file and the row that each comes from."""
    refused = set(rejected["row"].to_pylist())
    rows = [row for row in range(piece.first, piece.first + piece.rows) if row not in refused]
    file = pa.array([piece.file] * len(rows), pa.string())
    return accepted.append_column("source_file", file).append_column("source_row", pa.array(rows, pa.int64()))
