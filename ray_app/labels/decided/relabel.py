"""The page's decisions among those of an audit: a review gets the labels that a person left it with.

In: rows of `page_files.py`. Out: rows of DECISIONS, in the end one per label, as people write them by hand.
"""

from collections.abc import Iterator

from ray_app.data.rows import LabeledRow, with_words
from ray_app.data.taxonomy import Taxonomy
from ray_app.labels import reader
from ray_app.labels.annotations import parse_time
from ray_app.labels.decided.rows import RELABEL, DecisionRow
from ray_app.labels.rows import Row


def checked(row: Row, taxonomy: Taxonomy, location: str) -> DecisionRow:
    """A decision of the page as a row of DECISIONS. Raises UserError without the location."""
    review = reader.checked_row(row, taxonomy, {}, location)
    return {
        "review_id": review["review_id"],
        "keyword": None,
        "action": RELABEL,
        "score": None,
        "who": str(row.get("labeller") or "").strip() or None,
        "when": parse_time(row.get("labelled_at")),
        "place": location,
        "labels": review["labels"],
    }


def settled(decisions: list[DecisionRow]) -> list[DecisionRow]:
    """Decisions, of the page's the newest per person and review, and one of those that agree."""
    kept: list[DecisionRow] = []
    last: dict[tuple[str, str | None], DecisionRow] = {}
    for decision in decisions:
        if decision["action"] == RELABEL:
            key = (decision["review_id"], decision["who"])
            before = last.get(key)
            if before is None or str(before["when"] or "") <= str(decision["when"] or ""):
                last[key] = decision
        else:
            kept.append(decision)
    agreed: dict[tuple[str, str], DecisionRow] = {}
    for decision in last.values():
        labels = sorted((label["keyword"], label["score"]) for label in decision["labels"] or ())
        agreed.setdefault((decision["review_id"], str(labels)), decision)
    return [*kept, *agreed.values()]


def spelled_out(decision: DecisionRow, row: LabeledRow) -> Iterator[DecisionRow]:
    """A decision as it is; RELABEL as one decision per label that the review has or gets."""
    if decision["action"] != RELABEL:
        yield decision
        return
    before = {label["keyword"]: label for label in row["labels"]}
    given = {label["keyword"]: label for label in decision["labels"] or ()}
    for keyword in dict.fromkeys([*before, *given]):
        old, new = before.get(keyword), given.get(keyword)
        same = new is not None and old is not None and with_words(new, old) == old
        yield {
            **decision,
            "keyword": keyword,
            "action": "keep" if same else "drop" if new is None else "fix",
            "score": None if same or new is None else new["score"],
            "labels": None if new is None else [new],
        }
