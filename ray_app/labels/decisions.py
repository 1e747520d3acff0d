"""What people decided about labels that an audit flagged, and the labeled table after it.

In: decisions (review_id, keyword, action, and score, who, when where they matter) as CSV, TSV, xlsx, JSONL or Parquet;
columns of suspects.parquet and notes are for the people who decide, and an unknown one is refused. Or a folder of the
page's (`decided/`), each of which gives a review its labels anew. Out: a new version of the labeled table,
with `decisions.parquet` beside it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.data.column_names import DECISION_NAMES, folded
from ray_app.data.rows import LabelRow, same_feeling, with_words
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import composed
from ray_app.data.values import integral
from ray_app.errors import UserError, check, closest
from ray_app.labels import sheets, versions
from ray_app.labels.annotations import parse_time
from ray_app.labels.completions import parse_score
from ray_app.labels.decided import page_files, relabel
from ray_app.labels.decided.rows import DECISIONS, DecisionRow
from ray_app.labels.layout import blank
from ray_app.labels.rows import BadRow, Row, Rows, UnreadableRow, check_readable, report, rows, table_rows
from ray_app.labels.versions import LabelVersion, VersionRow
from ray_app.labels.workbook import Column

ACTIONS = ("keep", "fix", "drop")
SHEET = (  # columns of the sheet that people fill in
    *("review_id", "keyword", "action", "score", "who", "when"),
    *("kind", "given", "suggested", "confidence", "text", "reason"),
)
NOTES = ("evidence", "place", "split", "labels", "memo", "note", "notes", "comment", "비고", "메모", "코멘트", "의견")
_WIDE = {"text": 60, "reason": 60, "review_id": 14}


@dataclass(frozen=True)
class Applied:
    """The new version, and how many labels were kept, fixed, added and dropped, and reviews removed."""

    version: LabelVersion
    counts: dict[str, int]


def run(labeled: str, decided: str, output: str, taxonomy: Taxonomy) -> dict[str, str | int]:
    """Applies a file of decisions to a labeled table and writes the new version to `output`.

    Args:
        labeled: labeled reviews in any format, or the `labels.parquet` of an earlier version.
        decided: file, folder or glob of decisions. A row without an action is not decided yet, and counted.
        output: a new folder.

    Returns `labels` (their URI) and the counts of `Applied`, with `undecided`.
    """
    versions.check_new(output)
    decisions, undecided = read(decided, taxonomy)
    applied = apply(versions.load(labeled, taxonomy), decisions, datetime.now(UTC), taxonomy)
    sink = pa.BufferOutputStream()
    pq.write_table(decisions, sink)
    uri = versions.write(output, applied.version, {"decisions.parquet": sink.getvalue().to_pybytes()})
    return {"labels": uri, **applied.counts, "undecided": undecided}


def read(uri: str, taxonomy: Taxonomy) -> tuple[pa.Table, int]:
    """Decisions (DECISIONS), checked, and how many rows have no action yet. Raises UserError naming file and row."""
    decisions, undecided = [], 0
    bad: list[BadRow] = []
    for location, row in rows(uri, "decisions", _read_file):
        try:
            check_readable(row)
            if "decisions" in row:
                decisions.append(relabel.checked(row, taxonomy, location))
            elif _text(row, "action"):
                decisions.append(_checked(row, taxonomy, location))
            else:
                undecided += 1
        except UserError as error:
            bad.append(BadRow(location, str(error)))
    if bad:
        raise UserError(report(bad, remedy=""))
    return pa.Table.from_pylist(relabel.settled(decisions), schema=DECISIONS), undecided


def sheet(kind: str, lines: Iterable[Sequence[str]], taxonomy: Taxonomy) -> bytes:
    """Lines of SHEET as csv or xlsx, where actions and scores are drop-downs."""
    choices: dict[str, tuple[str, ...]] = {"action": ACTIONS, "score": tuple(map(str, taxonomy.scores))}
    columns = [
        Column(name=name, width=_WIDE.get(name, 12), choices=choices.get(name, ()), number=name == "score")
        for name in SHEET
    ]
    return sheets.table(kind, columns, lines)


def _read_file(uri: str) -> Rows:
    """Rows of one file by the names that `_checked` knows. Raises UserError where review_id or action is missing, and
    at a column that nobody knows: what it says would be lost."""
    names, found, _ = table_rows(uri)
    if set(names) >= page_files.NAMES:
        yield from found
        return
    by_fold = {folded(name): role for role, own in DECISION_NAMES.items() for name in reversed(own)}
    roles: dict[str, str] = {}
    for name in names:
        role = by_fold.get(folded(name))
        known = role or not name or folded(name) in {folded(other) for other in (*SHEET, *NOTES)}
        check(known, f"{uri}: unknown column {name!r}{closest(name, (*SHEET, *NOTES))}; rename or remove it")
        again = role is None or role not in roles
        check(again, f"{uri}: columns {roles.get(role or '')!r} and {name!r} are both {role}; remove one")
        roles |= {role: name} if role else {}
    for name in ("review_id", "action") if found or names else ():
        check(name in roles, f"{uri}: no column {name!r}{closest(name, names)}")
    for location, row in found:
        named = {role: row.get(name) for role, name in roles.items()}
        yield location, UnreadableRow(row.reason, named) if isinstance(row, UnreadableRow) else named


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    return "" if blank(value) else integral(composed(str(value).strip()))


def _checked(row: Row, taxonomy: Taxonomy, location: str) -> DecisionRow:
    """A row of DECISIONS. Raises UserError without the location."""
    keyword, action = _text(row, "keyword"), _text(row, "action")
    review_id = "" if blank(row.get("review_id")) else composed(str(row["review_id"]).strip())
    action = action.lower()
    check(review_id, "null review_id")
    check(action in ACTIONS, f"action {action!r} is none of {', '.join(ACTIONS)}")
    check(keyword or action == "drop", f"{action} needs a keyword; only drop goes without one, for the whole review")
    known = not keyword or keyword in taxonomy.names
    check(known, f"unknown keyword {keyword!r}{closest(keyword, taxonomy.names)}")
    score = _score(row, keyword, taxonomy) if action == "fix" else None
    when = row.get("when")
    return {
        "review_id": review_id,
        "keyword": keyword or None,
        "action": action,
        "score": score,
        "who": _text(row, "who") or None,
        "when": when if isinstance(when, datetime) else parse_time(_text(row, "when")),
        "place": location,
        "labels": None,
    }


def _score(row: Row, keyword: str, taxonomy: Taxonomy) -> int:
    """The score that a fix needs; a spreadsheet may write 2 as 2.0. Raises UserError where it is not on the scale."""
    text, scale = _text(row, "score"), ", ".join(map(str, taxonomy.scores))
    check(text, f"{keyword}: fix needs a score of {scale}")
    try:
        score = parse_score(text)
    except ValueError:
        score = None
    if score is None or score not in taxonomy.scores:
        raise UserError(f"{keyword}: score {text!r} is out of range; the scale is {scale}")
    return score


def apply(version: LabelVersion, decisions: pa.Table, now: datetime, taxonomy: Taxonomy) -> Applied:
    """The version after decisions (DECISIONS): `keep` leaves a label as it is, `fix` sets its score or adds it, `drop`
    removes it, or the whole review where it names no keyword. The rows before go to the history.

    Raises UserError, naming the decision's location, at an id that the table does not have, a label to drop that does
    not exist, a second decision about the same label, a review left without labels where the taxonomy has an overall
    keyword, and anything but keep on a test row: an audit never changes what models are judged by.
    """
    by_review: dict[str, list[DecisionRow]] = {}
    ids = set(version.labels["review_id"].to_pylist())
    for decision in decisions.to_pylist():
        if decision["review_id"] not in ids:  # pandas writes 12 as 12.0 where others lack an id
            decision["review_id"] = integral(decision["review_id"])
        by_review.setdefault(decision["review_id"], []).append(decision)
    current, may_be_empty = version.rows(by_review), taxonomy.overall is None
    counts = Counter(dict.fromkeys(("kept", "fixed", "added", "dropped", "removed"), 0))
    changed: dict[str, VersionRow | None] = {}
    reasons = {}
    for review_id, decided in by_review.items():
        check(review_id in current, f"{decided[0]['place']}: review_id {review_id!r} is not in the labels")
        _check_once(decided)
        decided = [one for each in decided for one in relabel.spelled_out(each, current[review_id])]
        changes = [decision for decision in decided if decision["action"] != "keep"]
        counts["kept"] += len(decided) - len(changes)
        if changes:
            changed[review_id] = _changed_row(current[review_id], changes, counts, now, may_be_empty)
            reasons[review_id] = "audit: " + "; ".join(map(_summary, changes))
    return Applied(versions.replace(version, changed, reasons, now), dict(counts))


def _check_once(decided: list[DecisionRow]) -> None:
    """Raises UserError at a second decision about a label, or beside one that drops the whole review."""
    locations: dict[str | None, str] = {}
    for decision in decided:
        keyword, location = decision["keyword"], decision["place"]
        clash = next((at for other, at in locations.items() if other == keyword or None in (other, keyword)), None)
        subject = keyword or "this review"
        check(clash is None, f"{location}: {clash} decides about {subject} already; leave one of the two")
        locations[keyword] = location


def _summary(decision: DecisionRow) -> str:
    """`fix 배송 -1 by park`."""
    values = (decision["action"], decision["keyword"], decision["score"])
    what = " ".join(str(value) for value in values if value is not None)
    return f"{what} by {decision['who']}" if decision["who"] else what


def _changed_row(
    old: VersionRow, changes: list[DecisionRow], counts: Counter[str], now: datetime, may_be_empty: bool
) -> VersionRow | None:
    """The row after the changes to it, counted; None where the review is removed."""
    location, review_id = changes[-1]["place"], old["review_id"]
    check(old["split"] != "test", f"{location}: review {review_id!r} is a test row, which an audit never changes")
    if changes[0]["keyword"] is None:
        counts["removed"] += 1
        return None
    labels = {label["keyword"]: label for label in old["labels"]}
    for change in changes:
        _change_label(labels, change, counts)
    check(
        labels or may_be_empty, f"{location}: review {review_id!r} would have no label left; drop it without a keyword"
    )
    return {
        **old,
        "labels": list(labels.values()),
        "labeller": ", ".join(dict.fromkeys(change["who"] for change in changes if change["who"])) or None,
        "labelled_at": max((change["when"] for change in changes if change["when"]), default=now),
        "round": "audit",
    }


def _change_label(labels: dict[str, LabelRow], change: DecisionRow, counts: Counter[str]) -> None:
    """Drops a label, sets its score (the words that name the keyword stay, those of the old feeling go) or adds it."""
    keyword, score = change["keyword"], change["score"]
    assert keyword is not None, "a decision about the whole review stands alone"
    if score is None:  # only a fix has a score
        check(keyword in labels, f"{change['place']}: review {change['review_id']!r} has no label {keyword} to drop")
        del labels[keyword]
        counts["dropped"] += 1
        return
    counts["fixed" if keyword in labels else "added"] += 1
    before = labels.get(keyword)
    if change["labels"]:
        labels[keyword] = with_words(change["labels"][0], before)
        return
    highlights = before["highlights"] if before else None
    opinions = before["opinions"] if before and same_feeling(before["score"], score) else None
    labels[keyword] = {"keyword": keyword, "score": score, "highlights": highlights, "opinions": opinions}
