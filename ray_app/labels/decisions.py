"""What people decided about labels that an audit flagged, and the labelled table after it.

In: decisions (review_id, keyword, action, and score, who, when where they matter) as CSV, TSV, JSONL or Parquet; any
other column, such as those of suspects.parquet, is for the people who decide. Out: a new version of the labelled table,
with `decisions.parquet` beside it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check, closest
from ray_app.labels import reader, spreadsheet, versions
from ray_app.labels.annotations import moment
from ray_app.labels.versions import LabelVersion

ACTIONS = ("keep", "fix", "drop")
DECISIONS = pa.schema(
    [
        ("review_id", pa.string()),
        ("keyword", pa.string()),
        ("action", pa.string()),
        ("score", pa.int8()),
        ("who", pa.string()),
        ("when", pa.timestamp("us", "UTC")),
        ("place", pa.string()),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Applied:
    """The new version, and how many labels were kept, fixed, added and dropped, and reviews removed."""

    version: LabelVersion
    counts: dict[str, int]


def run(labeled: str, decided: str, output: str, taxonomy: Taxonomy) -> dict[str, Any]:
    """Applies a file of decisions to a labelled table and writes the new version to `output`; returns the counts.

    Args:
        labelled: labelled reviews in any format, or the `labels.parquet` of an earlier version.
        decided: file, folder or glob of decisions. A row without an action is not decided yet, and counted.
        output: a new folder.
    """
    versions.check_new(output)
    decisions, undecided = read(decided, taxonomy)
    applied = apply(versions.load(labeled, taxonomy), decisions, datetime.now(UTC))
    sink = pa.BufferOutputStream()
    pq.write_table(decisions, sink)
    uri = versions.write(output, applied.version, {"decisions.parquet": sink.getvalue().to_pybytes()})
    return {"labels": uri, **applied.counts, "undecided": undecided}


def read(uri: str, taxonomy: Taxonomy) -> tuple[pa.Table, int]:
    """Decisions (DECISIONS), checked, and how many rows have no action yet. Raises UserError naming file and row."""
    rows, undecided = [], 0
    for place, row in _rows(uri):
        try:
            check("error" not in row, str(row.get("error")))
            if _text(row, "action"):
                rows.append(_checked(row, taxonomy) | {"place": place})
            else:
                undecided += 1
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
    return pa.Table.from_pylist(rows, schema=DECISIONS), undecided


def _rows(uri: str) -> Iterator[tuple[str, Row]]:
    files = storage.list_files(uri)
    check(files, f"{uri}: no files there")
    for file in files:
        suffix = file.uri[file.uri.rfind(".") :].lower()
        if suffix in (".csv", ".tsv"):
            yield from _cells(file.uri)
        elif suffix in (".jsonl", ".ndjson"):
            yield from reader.read_jsonl(file.uri)
        else:
            check(suffix == ".parquet", f"{file.uri}: decisions are read from .csv, .tsv, .jsonl, .parquet")
            for i, row in enumerate(storage.read_parquet(file.uri).to_pylist(), 1):
                yield f"{file.uri} row {i}", row


def _cells(uri: str) -> Iterator[tuple[str, Row]]:
    header, *lines = spreadsheet.read_cells(uri) or [[]]
    names = [name.strip().lower() for name in header]
    for name in ("review_id", "action"):
        check(name in names, f"{uri}: no column {name!r}{closest(name, names)}")
    for i, line in enumerate(lines, 2):
        if any(line):
            yield f"{uri} row {i}", dict(zip(names, line, strict=False))


def _text(row: Row, name: str) -> str:
    return str(row[name]).strip() if row.get(name) is not None else ""


def _checked(row: Row, taxonomy: Taxonomy) -> Row:
    review_id, keyword, action = (_text(row, name) for name in ("review_id", "keyword", "action"))
    action = action.lower()
    check(review_id, "null review_id")
    check(action in ACTIONS, f"action {action!r} is none of {', '.join(ACTIONS)}")
    check(keyword or action == "drop", f"{action} needs a keyword; only drop goes without one, for the whole review")
    known = not keyword or keyword in taxonomy.names
    check(known, f"unknown keyword {keyword!r}{closest(keyword, taxonomy.names)}")
    score = _score(row, keyword, taxonomy) if action == "fix" else None
    when = row.get("when")
    stamp = when if isinstance(when, datetime) else moment(_text(row, "when"))
    return {
        "review_id": review_id,
        "keyword": keyword or None,
        "action": action,
        "score": score,
        "who": _text(row, "who") or None,
        "when": stamp,
    }


def _score(row: Row, keyword: str, taxonomy: Taxonomy) -> int:
    """The score that fix needs; 2 and 2.0, as a spreadsheet may write it, are the same."""
    given = _text(row, "score")
    known = {str(score): score for score in taxonomy.scores} | {f"{score}.0": score for score in taxonomy.scores}
    scale = ", ".join(map(str, taxonomy.scores))
    check(given, f"{keyword}: fix needs a score of {scale}")
    check(given in known, f"{keyword}: score {given!r} is out of range; the scale is {scale}")
    return known[given]


def apply(version: LabelVersion, decisions: pa.Table, now: datetime) -> Applied:
    """The version after decisions (DECISIONS): `keep` leaves a label as it is, `fix` sets its score or adds it, `drop`
    takes it away, or the whole review where it names no keyword. The rows before go to the history.

    Raises UserError, naming the decision's place, at an id that the table does not have, a label to drop that is not
    there, a second decision about the same label, a review left without labels, and anything but keep on a test row:
    what models are judged by does not change with an audit.
    """
    by_review: dict[str, list[Row]] = {}
    for decision in decisions.to_pylist():
        by_review.setdefault(decision["review_id"], []).append(decision)
    known = version.rows(by_review)
    counts = Counter(dict.fromkeys(("kept", "fixed", "added", "dropped", "removed"), 0))
    rows: dict[str, Row | None] = {}
    why = {}
    for review_id, made in by_review.items():
        check(review_id in known, f"{made[0]['place']}: review_id {review_id!r} is not in the labels")
        _check_once(made)
        changes = [decision for decision in made if decision["action"] != "keep"]
        counts["kept"] += len(made) - len(changes)
        if changes:
            rows[review_id] = _decided(known[review_id], changes, counts, now)
            why[review_id] = "audit: " + "; ".join(map(_told, changes))
    return Applied(versions.replace(version, rows, why, now), dict(counts))


def _check_once(made: list[Row]) -> None:
    """One decision about a label; one that drops the review stands alone."""
    places: dict[str | None, str] = {}
    for decision in made:
        keyword, place = decision["keyword"], decision["place"]
        clash = next((at for other, at in places.items() if other == keyword or None in (other, keyword)), None)
        check(clash is None, f"{place}: {clash} decides about {keyword or 'this review'} already; leave one of the two")
        places[keyword] = place


def _told(decision: Row) -> str:
    what = " ".join(str(decision[name]) for name in ("action", "keyword", "score") if decision[name] is not None)
    return f"{what} by {decision['who']}" if decision["who"] else what


def _decided(old: Row, changes: list[Row], counts: Counter[str], now: datetime) -> Row | None:
    """The row after the changes to it, None where it leaves."""
    place, review_id = changes[-1]["place"], old["review_id"]
    check(old["split"] != "test", f"{place}: review {review_id!r} is a test row, which an audit never changes")
    if changes[0]["keyword"] is None:
        counts["removed"] += 1
        return None
    labels = {label["keyword"]: label for label in old["labels"]}
    for change in changes:
        _change(labels, change, counts)
    check(labels, f"{place}: review {review_id!r} would have no label left; drop it without a keyword")
    who = ", ".join(dict.fromkeys(change["who"] for change in changes if change["who"])) or None
    when = max((change["when"] for change in changes if change["when"]), default=now)
    return old | {"labels": list(labels.values()), "labeller": who, "labelled_at": when, "round": "audit"}


def _change(labels: dict[str, Row], change: Row, counts: Counter[str]) -> None:
    keyword = change["keyword"]
    if change["action"] == "drop":
        check(keyword in labels, f"{change['place']}: review {change['review_id']!r} has no label {keyword} to drop")
        del labels[keyword]
        counts["dropped"] += 1
        return
    counts["fixed" if keyword in labels else "added"] += 1
    labels[keyword] = labels.get(keyword, {"keyword": keyword, "highlights": None}) | {"score": change["score"]}
