"""A labeling batch goes out to the tool a team labels with, and the answers come back as one checked table.

Out: `label-studio/`, `prodigy/`, `doccano/`, `csv/` and `xlsx/` under a folder. In: exports of any of them. A malformed
row is named with its file and row; a task that is unfinished, rejected or skipped is counted and left out. `merge.run`
merges the answers into a labeled table; `decisions.run` applies what people decided after an audit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

import pyarrow as pa

from ray_app import storage
from ray_app.data.rows import LabelRow
from ray_app.data.schema import ANSWERS
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check, closest
from ray_app.labels import doccano, label_studio, prodigy, reader, sheets, workbook
from ray_app.labels.annotations import Annotation, parse_time, read_tasks
from ray_app.labels.rows import PARQUET, BadRow, UnreadableRow, read_jsonl, report, suffix_of

USUAL = ("label-studio", "prodigy", "doccano", "csv")  # what is written without being asked for
FORMATS = (*USUAL, "xlsx")
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".xlsx", PARQUET)


class AnswerRow(TypedDict):
    """A row of ANSWERS: one labeler's labels of a review."""

    review_id: str
    text: str
    labels: list[LabelRow]
    labeller: str
    labelled_at: datetime | None


@dataclass(frozen=True)
class Annotations:
    """Answers (ANSWERS, a row per review and labeler), why how many tasks were skipped, and a line per dropped row."""

    table: pa.Table
    skipped: dict[str, int]
    dropped: tuple[str, ...]


def check_formats(formats: Sequence[str]) -> None:
    """Raises UserError at an unknown format, or one that needs a package that is missing."""
    for name in formats:
        check(name in FORMATS, f"--formats {name}: no such format{closest(name, FORMATS)}")
    if "xlsx" in formats:
        workbook.check_installed("--formats")


def export(
    batch: pa.Table, folder: str, taxonomy: Taxonomy, formats: Sequence[str], sheet: str = sheets.AUTO
) -> list[str]:
    """Writes a labeling batch for each tool into its own folder under `folder`; returns the files' URIs.

    Args:
        batch: review_id, text; `labels` (as in a labeled table) or `findings` (as in analyses) to start from, or
            neither; any other column is shown to the labeler as metadata.
        formats: of FORMATS.
        sheet: of `sheets.FORMS`, what is filled in in csv and xlsx.

    Raises UserError at an unknown format, a missing column, or a folder that is not empty.
    """
    write = {"label-studio": label_studio.write, "prodigy": prodigy.write, "doccano": doccano.write}
    check_formats(formats)
    formats = list(dict.fromkeys(formats))
    files: list[str] = []
    for name in formats:
        own = storage.join(folder, name)
        check(storage.is_empty(own), f"{own} holds a batch already; choose another folder")
    for name in formats:
        own, tasks = storage.join(folder, name), read_tasks(batch)
        files += write[name](own, tasks, taxonomy) if name in write else sheets.write(own, tasks, taxonomy, name, sheet)
    return files


def read_annotations(
    uri: str, taxonomy: Taxonomy, on_bad_label: str = "fail", batch: pa.Table | None = None
) -> Annotations:
    """Reads labelers' answers: a file, folder or glob of exports (.json Label Studio, .jsonl Prodigy or doccano,
    .csv and .tsv the hand-labeling format).

    Args:
        on_bad_label: `fail` raises UserError at the first malformed row, `drop` leaves it out and reports it.
        batch: the batch that went out (review_id, text). Its texts replace those that come back, because a spreadsheet
            saved as cp949 loses emoji; an id that is not in it is malformed.
    """
    check(on_bad_label in ("fail", "drop"), f"--on-bad-label {on_bad_label}: write fail or drop")
    sent: dict[str, str] | None = None
    if batch is not None:
        sent = dict(zip(batch["review_id"].to_pylist(), batch["text"].to_pylist(), strict=True))
    answers: list[AnswerRow] = []
    bad: list[BadRow] = []
    skipped: Counter[str] = Counter()
    seen: dict[tuple[str, datetime | None], dict[str, str]] = {}
    without: list[str] = []
    for annotation in _annotations(uri, taxonomy):
        if annotation.skipped:
            skipped[annotation.skipped] += 1
            continue
        try:
            answers.append(_checked(annotation, taxonomy, seen, sent))
        except UserError as error:
            bad.append(BadRow(annotation.location, str(error)))
            continue
        if taxonomy.overall not in (None, *(label["keyword"] for label in answers[-1]["labels"])):
            without.append(annotation.location)
    if bad and on_bad_label == "fail":
        raise UserError(report(bad))
    if without:
        reader.tell_without_overall(taxonomy, without, len(answers))
    dropped = tuple(f"{each.location}: {each.problem}" for each in bad)
    return Annotations(pa.Table.from_pylist(answers, schema=ANSWERS), dict(skipped), dropped)


def _checked(
    annotation: Annotation,
    taxonomy: Taxonomy,
    seen: dict[tuple[str, datetime | None], dict[str, str]],
    sent: dict[str, str] | None,
) -> AnswerRow:
    """A row of ANSWERS. A labeler gives one answer per review and time; `seen` has the ids so far of each."""
    check(not annotation.error, annotation.error)
    raw = {"review_id": annotation.review_id, "text": annotation.text, "labels": annotation.labels}
    before = seen.setdefault((annotation.labeler, annotation.labeled_at), {})
    row = reader.checked_row(raw, taxonomy, before, annotation.location)
    review_id, text = row["review_id"], row["text"]
    if sent is not None:
        check(review_id in sent, f"review_id {review_id!r} is not in the batch that went out")
        cut = len(text) >= workbook.CELL - 1 and legible(sent[review_id]).startswith(legible(text))
        same = cut or legible(text) == legible(sent[review_id])
        check(same, f"the text is not that of review {review_id!r} in the batch that went out")
        text = sent[review_id]
    return {
        "review_id": review_id,
        "text": text,
        "labels": row["labels"],
        "labeller": annotation.labeler,
        "labelled_at": annotation.labeled_at,
    }


def legible(text: str) -> str:
    """What of a text survives Excel and cp949: neither white space and control characters nor a character that becomes
    `?` there."""
    survivors = text.encode("cp949", "ignore").decode("cp949")
    return "".join(letter for letter in survivors if letter != "?" and letter > " " and letter != "\x7f")


def _annotations(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = suffix_of(file.uri)
        check(suffix in SUFFIXES, f"{file.uri}: write a .json, .jsonl, .csv, .tsv or .xlsx file")
        if suffix == ".json":
            yield from label_studio.read(file.uri, taxonomy)
        elif suffix == ".jsonl" and (tool := _tool_of(file.uri)):
            yield from (prodigy if tool == "prodigy" else doccano).read(file.uri, taxonomy)
        else:
            yield from _table_annotations(file.uri, taxonomy)


def _tool_of(uri: str) -> str:
    """The tool that wrote JSON lines, "" where they are labels as ours are. Raises UserError at Label Studio's.

    Prodigy adds an answer and hashes to every task; doccano has neither.
    """
    rows = [row for _, row in read_jsonl(uri)]
    tasks = any("annotations" in row and "data" in row for row in rows)
    check(not tasks, f"{uri}: Label Studio's tasks, one per line; export them as JSON (.json)")
    if any("answer" in row or "_task_hash" in row for row in rows):
        return "prodigy"
    lists = [labels for row in rows if isinstance(labels := row.get("labels"), list)]
    own = any(isinstance(label, dict) and "keyword" in label for labels in lists for label in labels)
    more = any(set(row) - {"id", "review_id", "text"} for row in rows) and not lists
    doccanos = any({"cats", "entities", "label", "Comments"} & set(row) for row in rows)
    return "" if not doccanos and (own or more) else "doccano"


def _table_annotations(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """The labeler is in the column `labeller`, else it is the file's name."""
    name = uri.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for location, row in reader.read_answers(uri, taxonomy):
        labels, error = row.get("labels"), row.reason if isinstance(row, UnreadableRow) else ""
        try:
            time = parse_time(row.get("labelled_at"))
        except UserError as problem:
            time, error = None, str(problem)
        yield Annotation(
            location=location,
            review_id=row["review_id"],
            text=row["text"],
            labels=labels if isinstance(labels, list) else [],
            labeler=str(row.get("labeller") or name),
            labeled_at=time,
            skipped="" if isinstance(labels, list) or error else "unfinished",
            error=error,
        )
