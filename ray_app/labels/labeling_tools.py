"""A labelling batch goes out to the tool a team labels with, and what they did comes back as one checked table.

Out: `label-studio/`, `prodigy/`, `doccano/` and `csv/` under a folder. In: exports of any of them. A malformed row is
named with its file and row; a task that is unfinished, rejected or skipped is counted and left out. `merging.run` takes
answers into a labelled table, `decisions.run` what an audit's readers decided.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ray_app import storage
from ray_app.data.schema import ANSWERS
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check, closest
from ray_app.labels import doccano, label_studio, prodigy, reader, spreadsheet
from ray_app.labels.annotations import Annotation, LabelingTask, moment, reviews

FORMATS = ("label-studio", "prodigy", "doccano", "csv")


@dataclass(frozen=True)
class Annotations:
    """Answers (ANSWERS, a row per review and labeller), how many tasks were skipped and why, and the rows left out."""

    table: pa.Table
    skipped: dict[str, int]
    dropped: tuple[str, ...]


def export(batch: pa.Table, folder: str, taxonomy: Taxonomy, formats: Sequence[str]) -> list[str]:
    """Writes a labelling batch for each tool into its own folder under `folder`; returns the files' URIs.

    Args:
        batch: review_id, text; `labels` (as in a labelled table) or `findings` (as in analyses) to start from, or
            neither; any other column is shown to the labeller as metadata.
        formats: of FORMATS.

    Raises UserError at an unknown format, a missing column, or a folder that holds something already.
    """
    write = {"label-studio": label_studio.write, "prodigy": prodigy.write, "doccano": doccano.write, "csv": _write_csv}
    for name in formats:
        check(name in write, f"--formats {name}: no such format{closest(name, FORMATS)}")
        own = storage.join(folder, name)
        check(storage.is_empty(own), f"{own} holds a batch already; choose another folder")
    return [uri for name in formats for uri in write[name](storage.join(folder, name), reviews(batch), taxonomy)]


def _write_csv(folder: str, batch: Iterator[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """The hand-labelling format: Completion is empty, to be filled in like the `Model` beside it."""
    uri = storage.join(folder, "reviews.csv")
    rows = [(each.review_id, each.text, "", each.completion) for each in batch]
    storage.write_bytes(uri, spreadsheet.to_csv(("review_id", "text", "Completion", "Model"), rows))
    return [uri]


def read_annotations(
    uri: str, taxonomy: Taxonomy, on_bad_label: str = "fail", batch: pa.Table | None = None
) -> Annotations:
    """Reads what labellers did: a file, folder or glob of exports (.json Label Studio, .jsonl Prodigy or doccano,
    .csv and .tsv the hand-labelling format).

    Args:
        on_bad_label: `fail` raises UserError at the first malformed row, `drop` leaves it out and says so.
        batch: the batch that went out (review_id, text). Its texts then stand for those that come back, which a
            spreadsheet saved as cp949 has robbed of emoji; an id it does not hold is malformed.
    """
    check(on_bad_label in ("fail", "drop"), f"--on-bad-label {on_bad_label}: write fail or drop")
    sent = (
        dict(zip(*(batch[name].to_pylist() for name in ("review_id", "text")), strict=True))
        if batch is not None
        else None
    )
    kept, dropped = [], []
    skipped: Counter[str] = Counter()
    seen: dict[tuple[str, Any], dict[str, str]] = {}
    for answer in _answers(uri, taxonomy):
        if answer.skipped:
            skipped[answer.skipped] += 1
            continue
        try:
            kept.append(_checked(answer, taxonomy, seen, sent))
        except UserError as error:
            if on_bad_label == "fail":
                raise UserError(f"{answer.place}: {error} (or --on-bad-label drop)") from None
            dropped.append(f"{answer.place}: {error}")
    return Annotations(pa.Table.from_pylist(kept, schema=ANSWERS), dict(skipped), tuple(dropped))


def _checked(
    answer: Annotation, taxonomy: Taxonomy, seen: dict[tuple[str, Any], dict[str, str]], sent: dict[str, str] | None
) -> dict[str, Any]:
    """A row of ANSWERS. One labeller gives one answer to a review at a time."""
    check(not answer.error, answer.error)
    raw = {"review_id": answer.review_id, "text": answer.text, "labels": answer.labels}
    before = seen.setdefault((answer.labeller, answer.labelled_at), {})
    row = reader.checked_row(raw, taxonomy, before, answer.place)
    if sent is not None:
        check(row["review_id"] in sent, f"review_id {row['review_id']!r} is not in the batch that went out")
        original = sent[row["review_id"]]
        same = legible(row["text"]) == legible(original)
        check(same, f"the text is not that of review {row['review_id']!r} in the batch that went out")
        row["text"] = original
    return row | {"labeller": answer.labeller, "labelled_at": answer.labelled_at}


def legible(text: str) -> str:
    """What of a text survives Excel and cp949: neither white space nor a character that becomes `?` there."""
    kept = text.encode("cp949", "ignore").decode("cp949")
    return "".join(kept.replace("?", "").split())


def _answers(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = file.uri[file.uri.rfind(".") :].lower()
        check(suffix in (".json", ".jsonl", ".csv", ".tsv"), f"{file.uri}: write a .json, .jsonl, .csv or .tsv file")
        if suffix == ".json":
            yield from label_studio.read(file.uri, taxonomy)
        elif suffix == ".jsonl":
            yield from (prodigy if _is_prodigy(file.uri) else doccano).read(file.uri, taxonomy)
        else:
            yield from _csv_answers(file.uri)


def _is_prodigy(uri: str) -> bool:
    """Prodigy gives every task an answer and hashes of its own; doccano knows neither."""
    return any("answer" in row or "_task_hash" in row for _, row in reader.read_jsonl(uri))


def _csv_answers(uri: str) -> Iterator[Annotation]:
    """The labeller is the `labeller` column, else the file's name."""
    name = uri.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for place, row in reader.read_csv(uri):
        found, error = row.get("labels"), row.get("error", "")
        try:
            when = moment(row["labelled_at"])
        except UserError as problem:
            when, error = None, str(problem)
        who = row["labeller"] or name
        skipped = "" if found or error else "unfinished"
        yield Annotation(
            place=place,
            review_id=row["review_id"],
            text=row["text"],
            labels=found or [],
            labeller=who,
            labelled_at=when,
            skipped=skipped,
            error=error,
        )
