"""A labeled table never changes: every change is a new version with its history beside it.

In: labeled reviews in any format, or an earlier version. Out: a folder with `labels.parquet`, which --labels reads,
and `history.parquet`: every row that was ever replaced or removed, by what and when.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ray_app import storage
from ray_app.data.rows import LabeledRow
from ray_app.data.schema import LABELED, PROVENANCE, with_opinions
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check, first_line
from ray_app.labels import reader
from ray_app.labels.layout import layout_of
from ray_app.labels.rows import PARQUET, suffix_of, table_rows

log = logging.getLogger(__name__)
CURRENT = pa.schema([*LABELED, *PROVENANCE, ("round", pa.string())])
HISTORY = pa.schema([*CURRENT, ("replaced_by", pa.string()), ("replaced_at", pa.timestamp("us", "UTC"))])
_FILES = ("labels.parquet", "history.parquet")
_OWN = {*LABELED.names, "replaced_by", "replaced_at"}  # columns that a version writes itself


class VersionRow(LabeledRow):
    """A row of CURRENT; other columns that the labels came with lie beside these."""

    labeller: str | None
    labelled_at: datetime | None
    round: str | None


@dataclass(frozen=True)
class LabelVersion:
    """The current labels (CURRENT and any other columns they came with), and the HISTORY of earlier rows."""

    labels: pa.Table
    history: pa.Table

    def rows(self, ids: Iterable[str] | None = None) -> dict[str, VersionRow]:
        """Review id -> row, for those of `ids` that exist, or for all."""
        table = self.labels
        if ids is not None:
            table = table.filter(pc.is_in(table["review_id"], pa.array(list(ids), pa.string())))
        return {row["review_id"]: row for row in table.to_pylist()}


def load(uri: str, taxonomy: Taxonomy) -> LabelVersion:
    """Checked labels with the history beside them, if any; "" is a table without rows.

    Columns beyond CURRENT are kept where all files are Parquet, but for those that the labels were read from. Raises
    UserError at the first bad row: no version is built on a broken one.
    """
    if not uri:
        return LabelVersion(CURRENT.empty_table(), HISTORY.empty_table())
    table = reader.read_labels_with(uri, taxonomy).table
    if uri not in reader.SHIPPED:
        more = _other_columns(uri, taxonomy)
        for name, column in zip(more.column_names, more.columns, strict=True) if more is not None else ():
            table = table.append_column(name, column)
    folder = uri.removesuffix(_FILES[0])
    history = storage.join(folder, _FILES[1])
    has_history = folder != uri and storage.exists(history)
    past = with_opinions(storage.read_parquet(history)) if has_history else HISTORY.empty_table()
    return LabelVersion(_with_provenance(table, uri), past)


def _other_columns(uri: str, taxonomy: Taxonomy) -> pa.Table | None:
    """What Parquet files hold beside the labels and the columns from which these were read; None where files are of
    other kinds, whose other columns the log names. Raises UserError where two files have other types in one column."""
    kept, lost, files = [], dict[str, None](), [file.uri for file in storage.list_files(uri)]
    for file in files:
        names, rows, _ = table_rows(file)
        layout = layout_of(file, names, rows, taxonomy) if rows else None
        left = [name for name in names if name and name not in {*_OWN, *(layout.used() if layout else ())}]
        if suffix_of(file) == PARQUET:
            kept.append(_beside(file, left, layout.more if layout else {}))
        else:
            lost.update(dict.fromkeys(left))
    if lost:
        log.info("%s: %s: not kept in the new version, as those of Parquet are", uri, ", ".join(lost))
    try:
        return pa.concat_tables(kept, promote_options="permissive") if len(kept) == len(files) else None
    except pa.ArrowException as error:
        raise UserError(f"{uri}: its files do not go together ({first_line(error)})") from None


def _beside(file: str, names: list[str], roles: Mapping[str, str]) -> pa.Table:
    """The named columns of a Parquet file, and those of PROVENANCE under the names of their roles, where they fit."""
    raw = storage.read_parquet(file)
    beside = raw.select(names)
    for role, _ in PROVENANCE:
        column = roles.get(role)
        if column:
            fits = column == role or _castable(raw[column], CURRENT.field(role).type)
            beside = beside.append_column(role if fits else column, raw[column])
    return beside


def _castable(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowException:
        return False
    return True


def _with_provenance(table: pa.Table, uri: str) -> pa.Table:
    """The table with all columns of CURRENT, null where it lacks one. Raises UserError where one has another type."""
    for field in list(CURRENT)[len(LABELED) :]:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        try:
            table = table.set_column(table.column_names.index(field.name), field, table[field.name].cast(field.type))
        except pa.ArrowException as error:
            raise UserError(f"{uri}: column {field.name} is not {field.type} ({error})") from None
    return table


def replace(
    version: LabelVersion, rows: Mapping[str, VersionRow | None], by: Mapping[str, str], now: datetime
) -> LabelVersion:
    """The version with `rows`, by review id, in place of the rows of that id; the old ones go to the history.

    A new id is added at the end; None removes a row. `by` says per review id what replaced the row.
    """
    table, ids = version.labels, version.labels["review_id"].to_pylist()
    new = {review_id: row for review_id, row in rows.items() if row is not None}
    position = {review_id: len(table) + i for i, review_id in enumerate(new)}
    order = [position.get(review_id, i) for i, review_id in enumerate(ids) if review_id not in rows or review_id in new]
    old_ids = set(ids)
    order += [i for review_id, i in position.items() if review_id not in old_ids]
    both = pa.concat_tables([table, pa.Table.from_pylist(list(new.values()), schema=table.schema)])
    replaced = [i for i, review_id in enumerate(ids) if review_id in rows]
    past = table.take(pa.array(replaced, pa.int64()))
    past = past.append_column("replaced_by", pa.array([by[ids[i]] for i in replaced], pa.string()))
    past = past.append_column("replaced_at", pa.array([now] * len(replaced), HISTORY.field("replaced_at").type))
    history = pa.concat_tables([version.history, past], promote_options="default")
    return LabelVersion(both.take(pa.array(order, pa.int64())), history)


def add_to_history(version: LabelVersion, rows: Sequence[VersionRow], by: str, now: datetime) -> LabelVersion:
    """The version with rows in its history that were never current, because `by` was newer."""
    past = [{**row, "replaced_by": by, "replaced_at": now} for row in rows]
    fields = [*version.labels.schema, *list(HISTORY)[len(CURRENT) :]]
    added = pa.Table.from_pylist(past, schema=pa.schema(fields))
    return LabelVersion(version.labels, pa.concat_tables([version.history, added], promote_options="default"))


def check_new(folder: str) -> None:
    """Raises UserError unless the folder is empty or does not exist."""
    check(storage.is_empty(folder), f"--output {folder} holds something already; a version is never overwritten")


def write(folder: str, version: LabelVersion, beside: Mapping[str, bytes]) -> str:
    """Writes the files in `beside`, by name, then a version, the labels last; returns the URI of the labels.

    Raises UserError unless the folder is empty or does not exist.
    """
    check_new(folder)
    try:
        for name, data in beside.items():
            storage.write_bytes(storage.join(folder, name), data)
        storage.write_parquet(storage.join(folder, _FILES[1]), version.history)
        storage.write_parquet(storage.join(folder, _FILES[0]), version.labels)
    except UserError:  # a full disk, say: half a version would keep the same command from going on
        storage.remove(folder)
        raise
    return storage.join(folder, _FILES[0])
