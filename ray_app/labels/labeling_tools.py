"""A labeling batch goes out to the tool a team labels with, and the answers come back as one checked table.

Out: `label-studio/`, `prodigy/`, `doccano/` and `csv/` under a folder. In: exports of any of them. A malformed row is
named with its file and row; a task that is unfinished, rejected or skipped is counted and left out. `merge.run` merges
the answers into a labeled table; `decisions.run` applies what people decided after an audit.
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
from ray_app.labels import doccano, label_studio, prodigy, reader, spreadsheet
from ray_app.labels.annotations import Annotation, LabelingTask, parse_time, read_tasks
from ray_app.labels.rows import UnreadableRow, read_jsonl, suffix_of

FORMATS = ("label-studio", "prodigy", "doccano", "csv")
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".xlsx")


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


def export(batch: pa.Table, folder: str, taxonomy: Taxonomy, formats: Sequence[str]) -> list[str]:
    """Writes a labeling batch for each tool into its own folder under `folder`; returns the files' URIs.

    Args:
        batch: review_id, text; `labels` (as in a labeled table) or `findings` (as in analyses) to start from, or
            neither; any other column is shown to the labeler as metadata.
        formats: of FORMATS.

    Raises UserError at an unknown format, a missing column, or a folder that is not empty.
    """
    write = {"label-studio": label_studio.write, "prodigy": prodigy.write, "doccano": doccano.write, "csv": _write_csv}
    for name in formats:
        check(name in write, f"--formats {name}: no such format{closest(name, FORMATS)}")
        own = storage.join(folder, name)
        check(storage.is_empty(own), f"{own} holds a batch already; choose another folder")
    return [uri for name in formats for uri in write[name](storage.join(folder, name), read_tasks(batch), taxonomy)]


def _write_csv(folder: str, tasks: Iterator[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """The hand-labeling format: `Completion` is empty, to be filled in as in the column `Model` beside it."""
    uri = storage.join(folder, "reviews.csv")
    rows = [(task.review_id, task.text, "", task.completion) for task in tasks]
    storage.write_bytes(uri, spreadsheet.to_csv(("review_id", "text", "Completion", "Model"), rows))
    return [uri]


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
    answers, dropped = [], []
    skipped: Counter[str] = Counter()
    seen: dict[tuple[str, datetime | None], dict[str, str]] = {}
    for annotation in _annotations(uri, taxonomy):
        if annotation.skipped:
            skipped[annotation.skipped] += 1
            continue
        try:
            answers.append(_checked(annotation, taxonomy, seen, sent))
        except UserError as error:
            if on_bad_label == "fail":
                raise UserError(f"{annotation.location}: {error} (or --on-bad-label drop)") from None
            dropped.append(f"{annotation.location}: {error}")
    return Annotations(pa.Table.from_pylist(answers, schema=ANSWERS), dict(skipped), tuple(dropped))


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
        same = legible(text) == legible(sent[review_id])
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
    """What of a text survives Excel and cp949: neither white space nor a character that becomes `?` there."""
    survivors = text.encode("cp949", "ignore").decode("cp949")
    return "".join(survivors.replace("?", "").split())


def _annotations(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = suffix_of(file.uri)
        check(suffix in SUFFIXES, f"{file.uri}: write a .json, .jsonl, .csv, .tsv or .xlsx file")
        if suffix == ".json":
            yield from label_studio.read(file.uri, taxonomy)
        elif suffix == ".jsonl":
            tasks = any("annotations" in row and "data" in row for _, row in read_jsonl(file.uri))
            check(not tasks, f"{file.uri}: Label Studio's tasks, one per line; export them as JSON (.json)")
            yield from (prodigy if _is_prodigy(file.uri) else doccano).read(file.uri, taxonomy)
        else:
            yield from _csv_annotations(file.uri)


def _is_prodigy(uri: str) -> bool:
    """Prodigy adds an answer and hashes to every task; doccano has neither."""
    return any("answer" in row or "_task_hash" in row for _, row in read_jsonl(uri))


def _csv_annotations(uri: str) -> Iterator[Annotation]:
    """The labeler is in the column `labeller`, else it is the file's name."""
    name = uri.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for location, row in reader.read_completions(uri):
        labels, error = row.get("labels"), row.reason if isinstance(row, UnreadableRow) else ""
        try:
            time = parse_time(row["labelled_at"])
        except UserError as problem:
            time, error = None, str(problem)
        yield Annotation(
            location=location,
            review_id=row["review_id"],
            text=row["text"],
            labels=labels if isinstance(labels, list) else [],
            labeler=str(row["labeller"] or name),
            labeled_at=time,
            skipped="" if isinstance(labels, list) or error else "unfinished",
            error=error,
        )
