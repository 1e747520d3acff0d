"""Labelled reviews, in every format they come in, as one checked table.

In: Parquet, JSONL, or CSV/TSV with a `Completion` column (`스타일 1, 만족도 2`), or the word `sample`.
Out: a LABELLED table. A bad label is named with its file and row; `--on-bad-label` says whether it stops the job.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ray_app import storage
from ray_app.data.columns import ID_NAMES, TEXT_NAMES, folded
from ray_app.data.schema import LABELED
from ray_app.data.taxonomy import Taxonomy, from_labels, load
from ray_app.data.text import is_blank
from ray_app.errors import UserError, check, closest
from ray_app.labels.spreadsheet import decoded, read_cells

SPLITS = ("train", "validation", "test")
TAKE_FROM_LABELS = "; --taxonomy labels takes the keywords from the labels"
_PAIR = re.compile(r"^(?P<keyword>.*[^\d\s.+−-])\s*(?P<score>[+-]?\d{1,9})$")


@dataclass(frozen=True)
class Labels:
    """A checked table of labels, the taxonomy they were read by, and the lines that say which rows were dropped."""

    table: pa.Table
    taxonomy: Taxonomy
    dropped: tuple[str, ...]

    def split(self, *names: str | None) -> pa.Table:
        """The rows whose split is one of `names` (None: rows without one)."""
        splits = self.table["split"].to_pylist()
        return self.table.take(pa.array([i for i, split in enumerate(splits) if split in names], pa.int64()))


def read_labels(uri: str, taxonomy: str = "default", on_bad_label: str = "fail") -> Labels:
    """Reads and checks labels.

    Args:
        uri: a file, a folder or glob of Parquet or JSONL files, or `sample`.
        taxonomy: `default`, `labels` (whatever the labels themselves span) or a YAML file.
        on_bad_label: `fail` raises UserError at the first bad row, `drop` leaves it out and says so.
    """
    rows = list(_sample_rows() if uri == "sample" else _rows(uri))
    check(rows, f"{uri}: no labelled reviews there")
    return _read(uri, rows, _taxonomy(taxonomy, (row for _, row in rows)), on_bad_label, TAKE_FROM_LABELS)


def read_labels_with(uri: str, taxonomy: Taxonomy, on_bad_label: str = "fail") -> Labels:
    """The same by a taxonomy at hand, such as a bundle's own."""
    rows = list(_sample_rows() if uri == "sample" else _rows(uri))
    check(rows, f"{uri}: no labelled reviews there")
    return _read(uri, rows, taxonomy, on_bad_label)


def _read(
    uri: str, rows: list[tuple[str, dict[str, Any]]], known: Taxonomy, on_bad_label: str, remedy: str = ""
) -> Labels:
    check(on_bad_label in ("fail", "drop"), f"--on-bad-label {on_bad_label}: write fail or drop")
    kept, dropped = [], []
    seen: dict[str, str] = {}
    for place, row in rows:
        try:
            kept.append(checked_row(row, known, seen, place))
        except UserError as error:
            if on_bad_label == "fail":
                hint = remedy if str(error).startswith("unknown keyword") else ""
                raise UserError(f"{place}: {error}{hint} (or --on-bad-label drop)") from None
            dropped.append(f"{place}: {error}")
    check(kept, f"{uri}: every one of {len(rows)} rows is bad; the first: {(dropped or [''])[0]}")
    return Labels(pa.Table.from_pylist(kept, schema=LABELED), known, tuple(dropped))


def parse_completion(text: str) -> list[dict[str, Any]]:
    """`스타일 1, 만족도2, 신축성 -1` -> labels. Raises UserError on a part that is not a keyword and a whole number."""
    return [parse_pair(part) for part in filter(None, (p.strip() for p in text.split(",")))]


def parse_pair(part: str) -> dict[str, Any]:
    """`배송 -1` -> a label."""
    match = _PAIR.match(part)
    if not match:
        raise UserError(f"{part!r} is not a keyword and a score such as '배송 -1'")
    return {"keyword": match["keyword"].strip(), "score": int(match["score"])}


def _taxonomy(choice: str, rows: Iterable[dict[str, Any]]) -> Taxonomy:
    if choice != "labels":
        return load() if choice in ("default", "sample") else load(choice)
    pairs = []
    for row in rows:
        labels = row.get("labels")
        for label in labels if isinstance(labels, list) else ():
            if isinstance(label, dict) and isinstance(label.get("keyword"), str) and _is_int(label.get("score")):
                pairs.append((label["keyword"], int(label["score"])))
    return from_labels(pairs)


def checked_row(row: dict[str, Any], taxonomy: Taxonomy, seen: dict[str, str], place: str) -> dict[str, Any]:
    """A LABELLED row of a raw one; `seen` holds the places of the ids before it. Raises UserError without the place."""
    check("error" not in row, row.get("error", ""))
    review_id, text = row.get("review_id"), row.get("text")
    check(review_id is not None and str(review_id).strip(), "null review_id")
    check(str(review_id) not in seen, f"review_id {review_id!r} was seen at {seen.get(str(review_id))} already")
    check(isinstance(text, str) and not is_blank(text), "null or empty text")
    check(isinstance(row.get("labels"), list) and row["labels"], "no labels")
    split = row.get("split") or None
    check(split in (None, *SPLITS), f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    labels = [_checked_label(label, taxonomy) for label in row["labels"]]
    names = [label["keyword"] for label in labels]
    twice = next((name for name in names if names.count(name) > 1), None)
    check(twice is None, f"duplicate keyword {twice!r}")
    seen[str(review_id)] = place
    return {"review_id": str(review_id), "text": text, "labels": labels, "split": split}


def _checked_label(label: Any, taxonomy: Taxonomy) -> dict[str, Any]:
    check(isinstance(label, dict), f"label {label!r} is not a keyword and a score")
    keyword, score = label.get("keyword"), label.get("score")
    check(keyword in taxonomy.names, f"unknown keyword {keyword!r}{closest(str(keyword), taxonomy.names)}")
    check(
        _is_int(score) and int(score) in taxonomy.scores,
        f"{keyword}: score {score!r} is out of range; the scale is {', '.join(map(str, taxonomy.scores))}",
    )
    highlights = label.get("highlights")
    check(
        highlights is None or (isinstance(highlights, list) and all(isinstance(h, str) for h in highlights)),
        f"{keyword}: highlights must be a list of words",
    )
    return {"keyword": keyword, "score": int(score), "highlights": highlights}


def _is_int(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _rows(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, raw row) of every file; the place is `file row N` as a person counts in that file."""
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    readers = {".parquet": _parquet, ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".tsv": read_csv}
    for file in files:
        suffix = file.uri[file.uri.rfind(".") :].lower()
        check(suffix in readers, f"{file.uri}: labels are read from {', '.join(readers)}")
        yield from readers[suffix](file.uri)


def _sample_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    from ray_app.sample import labeled

    for i, row in enumerate(labeled(), 1):
        yield f"sample row {i}", row


def _parquet(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    table = storage.read_parquet(uri)
    _require(table.column_names, ("review_id", "text", "labels"), uri)
    names = [n for n in ("review_id", "text", "labels", "split") if n in table.column_names]
    for i, row in enumerate(table.select(names).to_pylist(), 1):
        yield f"{uri} row {i}", row


def read_jsonl(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of every line; a line that is none has the key `error`."""
    for i, line in enumerate(decoded(uri).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            row = {"error": f"not JSON ({error})"}
        yield f"{uri} row {i}", row if isinstance(row, dict) else {"error": "not a JSON object"}


def read_csv(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, raw row). Rows count from 2: the header is row 1, as a spreadsheet shows it. A `labeller` and a
    `labelled_at` column are kept where there are any."""
    lines = read_cells(uri)
    header = [name.strip() for name in (lines or [[]])[0]]
    completion = _named(header, ("completion",))
    body = _named(header, (*TEXT_NAMES, "prompt"))
    check(completion and body, f"{uri}: needs a text column and a Completion column, has {', '.join(header)}")
    identity = _named(header, ID_NAMES)
    for i, cells in enumerate(lines[1:], 2):
        if not any(cells):
            continue
        row: dict[str, Any] = dict(zip(header, cells, strict=False))
        parsed: dict[str, Any] = {
            "review_id": row.get(identity) if identity else f"{uri.rsplit('/', 1)[-1]}-{i}",
            "text": row.get(body or ""),
            "split": row.get("split"),
            "labeller": row.get("labeller"),
            "labelled_at": row.get("labelled_at"),
        }
        try:
            check(not any(cells[len(header) :]), f"{len(cells)} cells under {len(header)} names; quote commas")
            parsed["labels"] = parse_completion(row.get(completion or "", ""))
        except UserError as error:
            parsed["error"] = str(error)
        yield f"{uri} row {i}", parsed


def _named(header: list[str], names: Iterable[str]) -> str | None:
    have = {folded(name): name for name in header}
    return next((have[folded(name)] for name in names if folded(name) in have), None)


def _require(have: list[str], need: Iterable[str], uri: str) -> None:
    for name in need:
        check(name in have, f"{uri}: no column {name!r}{closest(name, have)}")
