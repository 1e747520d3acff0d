"""Prodigy: tasks of one page with spans and choices out, `prodigy db-out` in (task format of 1.11 and later).

Out: `tasks.jsonl` and `prodigy.json`, the settings of the page; `prodigy mark DATASET tasks.jsonl --view-id blocks`
with PRODIGY_CONFIG=prodigy.json shows them. In: JSONL with `answer`, `accept` and `spans`; offsets are code points.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.data.text import Span, words
from ray_app.errors import UserError, check
from ray_app.labels.annotations import Annotation, LabelingTask, choice, chosen, labels_of, moment
from ray_app.labels.reader import read_jsonl


def write(folder: str, reviews: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes tasks and settings; returns their URIs."""
    files = [storage.join(folder, name) for name in ("prodigy.json", "tasks.jsonl")]
    lines = [json.dumps(task(review, taxonomy), ensure_ascii=False, default=str) + "\n" for review in reviews]
    storage.write_json(files[0], settings(taxonomy))
    storage.write_bytes(files[1], "".join(lines).encode())
    return files


def settings(taxonomy: Taxonomy) -> dict[str, Any]:
    return {
        "blocks": [{"view_id": "spans_manual"}, {"view_id": "choice", "text": None}],
        "labels": list(taxonomy.names),
        "choice_style": "multiple",
        "exclude_by": "input",
    }


def task(review: LabelingTask, taxonomy: Taxonomy) -> dict[str, Any]:
    """One task, its findings already marked. Tokens are words, cut where a span starts or ends inside one."""
    tokens = _tokens(review)
    starts, ends = ({token[key]: token["id"] for token in tokens} for key in ("start", "end"))
    spans = [
        {"start": start, "end": end, "label": mark.keyword, "token_start": starts[start], "token_end": ends[end]}
        for mark in review.marks
        for start, end in mark.spans
    ]
    options = [
        {"id": choice(name, score), "text": f"{choice(name, score)} {taxonomy.score_names.get(score, '')}".strip()}
        for name in taxonomy.names
        for score in taxonomy.scores
    ]
    accepted = [choice(mark.keyword, mark.score) for mark in review.marks]
    own = {"text": review.text, "tokens": tokens, "spans": spans, "options": options, "accept": accepted}
    return own | {"review_id": review.review_id, "meta": review.about}


def _tokens(review: LabelingTask) -> list[dict[str, Any]]:
    cuts = {edge for mark in review.marks for span in mark.spans for edge in span}
    pieces = [piece for span in words([review.text])[0] for piece in _cut(span, cuts)]
    return [
        {
            "text": review.text[start:end],
            "start": start,
            "end": end,
            "id": i,
            "ws": end < len(review.text) and review.text[end].isspace(),
        }
        for i, (start, end) in enumerate(pieces)
    ]


def _cut(span: Span, cuts: set[int]) -> Iterator[Span]:
    edges = [span[0], *sorted(cut for cut in cuts if span[0] < cut < span[1]), span[1]]
    yield from itertools.pairwise(edges)


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every answered task; what was rejected or ignored is skipped."""
    for place, row in read_jsonl(uri):
        try:
            check("error" not in row, row.get("error", ""))
            yield _answer(place, row, taxonomy)
        except UserError as error:
            yield Annotation(place=place, error=str(error))


def _answer(place: str, row: dict[str, Any], taxonomy: Taxonomy) -> Annotation:
    answer, text = row.get("answer"), row.get("text")
    if answer in ("reject", "ignore"):
        return Annotation(place=place, skipped={"reject": "rejected", "ignore": "ignored"}[answer])
    check(answer == "accept", f"answer {answer!r} is not accept, reject or ignore; export it with prodigy db-out")
    spans, accepted = row.get("spans") or [], row.get("accept") or []
    listed = isinstance(spans, list) and all(isinstance(span, dict) for span in spans)
    check(listed and isinstance(accepted, list), "`spans` must be a list of spans and `accept` a list of choices")
    if not accepted and not spans:
        return Annotation(place=place, skipped="unfinished")
    marked = [(span.get("label"), span.get("start"), span.get("end")) for span in spans]
    labels = labels_of(text if isinstance(text, str) else "", chosen(accepted, taxonomy), marked, taxonomy)
    who = str(row.get("_annotator_id") or row.get("_session_id") or "")
    return Annotation(
        place=place,
        review_id=row.get("review_id"),
        text=text,
        labels=labels,
        labeller=who,
        labelled_at=moment(row.get("_timestamp")),
    )
