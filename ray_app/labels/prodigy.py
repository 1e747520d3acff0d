"""Prodigy: tasks of one page with spans and choices out, `prodigy db-out` in (task format of 1.11 and later).

Out: `tasks.jsonl` and `prodigy.json`, the settings of the page. To label:
`PRODIGY_CONFIG=prodigy.json prodigy mark DATASET tasks.jsonl --view-id blocks`. In: JSONL with `answer`, `accept` and
`spans`; offsets are code points, or what the task's own tokens count by.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import TypedDict

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import Span, words
from ray_app.errors import UserError, check
from ray_app.labels import offsets
from ray_app.labels.annotations import (
    OPINION,
    Annotation,
    LabelingTask,
    choice,
    parse_choices,
    parse_time,
    to_labels,
)
from ray_app.labels.rows import Row, check_readable, read_jsonl


class Token(TypedDict):
    """A token of a task: its text, code points [start, end), its number, and whether white space follows it."""

    text: str
    start: int
    end: int
    id: int
    ws: bool


def write(folder: str, tasks: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes tasks and settings; returns their URIs."""
    files = [storage.join(folder, name) for name in ("prodigy.json", "tasks.jsonl")]
    lines = [json.dumps(to_json(task, taxonomy), ensure_ascii=False, default=str) + "\n" for task in tasks]
    storage.write_json(files[0], settings(taxonomy))
    storage.write_bytes(files[1], "".join(lines).encode())
    return files


def settings(taxonomy: Taxonomy) -> Row:
    """The page: spans to mark by keyword, and choices of a keyword with its score."""
    return {
        "blocks": [{"view_id": "spans_manual"}, {"view_id": "choice", "text": None}],
        "labels": [name + kind for name in taxonomy.names for kind in ("", OPINION)],
        "choice_style": "multiple",
        "exclude_by": "input",
    }


def to_json(task: LabelingTask, taxonomy: Taxonomy) -> Row:
    """One task with its suggestions already marked. Tokens are words, cut where a span starts or ends inside one."""
    tokens = _tokens(task)
    starts = {token["start"]: token["id"] for token in tokens}
    ends = {token["end"]: token["id"] for token in tokens}
    spans = [
        {"start": start, "end": end, "label": name, "token_start": starts[start], "token_end": ends[end]}
        for label in task.suggestions
        for name, (start, end) in label.marked()
    ]
    options = [
        {"id": choice(name, score), "text": f"{choice(name, score)} {taxonomy.score_names.get(score, '')}".strip()}
        for name in taxonomy.names
        for score in taxonomy.scores
    ]
    accepted = [choice(label.keyword, label.score) for label in task.suggestions]
    content = {"text": task.text, "tokens": tokens, "spans": spans, "options": options, "accept": accepted}
    return {**content, "review_id": task.review_id, "meta": task.metadata}


def _tokens(task: LabelingTask) -> list[Token]:
    cuts = {edge for label in task.suggestions for _, span in label.marked() for edge in span}
    pieces = [piece for word in words([task.text])[0] for piece in _cut(word, cuts)]
    return [
        {
            "text": task.text[start:end],
            "start": start,
            "end": end,
            "id": i,
            "ws": end < len(task.text) and task.text[end].isspace(),
        }
        for i, (start, end) in enumerate(pieces)
    ]


def _cut(word: Span, cuts: set[int]) -> Iterator[Span]:
    edges = [word[0], *sorted(cut for cut in cuts if word[0] < cut < word[1]), word[1]]
    yield from itertools.pairwise(edges)


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every answered task; one that was rejected or ignored is skipped."""
    for location, row in read_jsonl(uri):
        try:
            check_readable(row)
            yield _annotation(location, row, taxonomy)
        except UserError as error:
            yield Annotation(location=location, error=str(error))


def _annotation(location: str, row: Row, taxonomy: Taxonomy) -> Annotation:
    answer, text = row.get("answer"), row.get("text")
    if answer in ("reject", "ignore"):
        return Annotation(location=location, skipped="rejected" if answer == "reject" else "ignored")
    check(answer == "accept", f"answer {answer!r} is not accept, reject or ignore; export it with prodigy db-out")
    spans, accepted = row.get("spans") or [], row.get("accept") or []
    if (
        not isinstance(spans, list)
        or not isinstance(accepted, list)
        or not all(isinstance(span, dict) for span in spans)
    ):
        raise UserError("`spans` must be a list of spans and `accept` a list of choices")
    if not accepted and not spans and taxonomy.overall:
        return Annotation(location=location, skipped="unfinished")
    places = _places(text if isinstance(text, str) else "", row.get("tokens"))
    ends = [[span.get(name) for name in ("start", "end")] for span in spans]
    counted = [[places.get(one, one) if isinstance(one, int) else one for one in pair] for pair in ends]
    marked = [(span.get("label"), start, end) for span, (start, end) in zip(spans, counted, strict=True)]
    return Annotation(
        location=location,
        review_id=row.get("review_id"),
        text=text,
        labels=to_labels(text if isinstance(text, str) else "", parse_choices(accepted, taxonomy), marked, taxonomy),
        labeler=str(row.get("_annotator_id") or row.get("_session_id") or ""),
        labeled_at=parse_time(row.get("_timestamp")),
    )


def _places(text: str, tokens: object) -> offsets.Places:
    """How the offsets of a task count, by its tokens. Raises UserError where these do not stand in the text."""
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        return {}
    places = offsets.way_of(text, ((token.get("start"), token.get("end"), token.get("text")) for token in tokens))
    check(places is not None, "its tokens are not those of its text; export it with prodigy db-out")
    return places or {}
