"""What people decide in the page about a model's findings, one small file per decision that is never written again.

    DECISIONS/<who>/000001.jsonl   {"review_id", "text", "labels", "labeller", "labelled_at", "bundle", "decisions"}

`labels` are the review's labels as the person left them; `decisions` say how they came about: `confirm`, `change`,
`remove` or `add`, with the `old` label (the model's) and the `new` one. A file is created once, or not at all, so that
nobody overwrites anybody, and a folder of them is what `jobs.acquire merge --answers` and `jobs.audit apply
--decisions` take. A person's newest decision about a review counts.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from ray_app import storage
from ray_app.data.rows import LabelRow
from ray_app.errors import UserError, check

Action = Literal["confirm", "change", "remove", "add"]
NAMES = {"review_id", "text", "labels", "labeller", "labelled_at", "bundle", "decisions"}
LONGEST = 60  # characters of a person's name
ATTEMPTS = 1_000  # numbers that others may take while one looks for a free one


class Decision(TypedDict):
    """About one finding: the label that the model gave (None: none), and the person's (None: none)."""

    action: Action
    old: LabelRow | None
    new: LabelRow | None


class DecidedReview(TypedDict):
    """One file."""

    review_id: str
    text: str
    labels: list[LabelRow]
    labeller: str
    labelled_at: str
    bundle: str
    decisions: list[Decision]


def compare(old: Sequence[LabelRow], new: Sequence[tuple[int | None, LabelRow]]) -> list[Decision]:
    """What was decided about the model's labels `old`, where `new` are (which of them it was, None: added; label)."""
    decisions: list[Decision] = []
    left = {origin: label for origin, label in new if origin is not None}
    for origin, before in enumerate(old):
        now = left.get(origin)
        action: Action = "remove" if now is None else "confirm" if now == before else "change"
        decisions.append({"action": action, "old": before, "new": now})
    decisions += [Decision(action="add", old=None, new=label) for origin, label in new if origin is None]
    return decisions


def append(folder: str, decided: DecidedReview) -> str:
    """Writes a decision as a new file and returns its URI. Raises UserError where it cannot be written."""
    who = decided["labeller"].strip()
    check(who, "decisions need a name: who decided?")
    check(len(who) <= LONGEST, f"{who[:20]}…: a name has at most {LONGEST} characters")
    own = storage.join(folder, storage.safe_name(who))
    line = (json.dumps(decided, ensure_ascii=False) + "\n").encode()
    number = len(storage.list_files(own, ".jsonl")) if storage.exists(own) else 0
    for next_one in range(number + 1, number + 1 + ATTEMPTS):
        uri = storage.join(own, f"{next_one:06d}.jsonl")
        if storage.create(uri, line):
            return uri
    raise UserError(f"{own}: no free number for another decision; try again")


def read(folder: str) -> list[DecidedReview]:
    """Every person's newest decision about every review, the oldest first; a file that holds none is left out."""
    found: list[DecidedReview] = []
    for file in storage.list_files(folder, ".jsonl") if storage.exists(folder) else ():
        for line in storage.read_bytes(file.uri).decode(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if _is_decision(row):
                found.append(row)
    return newest(found)


def _is_decision(row: object) -> bool:
    """Whether a line is one of `append`, and not what somebody else put into the folder."""
    if not isinstance(row, dict) or not set(row) >= NAMES or not isinstance(row["labels"], list):
        return False
    texts = all(isinstance(row[name], str) for name in ("review_id", "text", "labeller", "labelled_at"))
    return texts and all(isinstance(label, dict) and {"keyword", "score"} <= set(label) for label in row["labels"])


def newest(decided: Iterable[DecidedReview]) -> list[DecidedReview]:
    """Of each person and review the last decision, in the order of their times."""
    last: dict[tuple[str, str], DecidedReview] = {}
    for row in sorted(decided, key=lambda row: row["labelled_at"]):
        last[row["labeller"], row["review_id"]] = row
    return sorted(last.values(), key=lambda row: row["labelled_at"])
