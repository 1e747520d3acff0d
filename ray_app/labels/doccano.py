"""doccano: documents and label types of a project out, its JSONL export in (1.8, Intent Detection and Slot Filling).

Out: `documents.jsonl`, `categories.json` and `spans.json` (Labels > Import). doccano cannot tell an imported label
from a labeller's own, so documents carry none: the model's view is in their metadata. In: an export with `cats` and
`entities`, one file per member named after them; choose "export only approved documents". Offsets are code points,
unless the project counts grapheme clusters, which it must not.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check
from ray_app.labels.annotations import Annotation, LabelingTask, choice, chosen, labels_of
from ray_app.labels.reader import read_jsonl


def write(folder: str, reviews: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes documents and label types; returns their URIs."""
    files = [storage.join(folder, name) for name in ("categories.json", "spans.json", "documents.jsonl")]
    scored = [choice(name, score) for name in taxonomy.names for score in taxonomy.scores]
    storage.write_json(files[0], [_label_type(name) for name in scored])
    storage.write_json(files[1], [_label_type(name) for name in taxonomy.names])
    lines = [json.dumps(document(review), ensure_ascii=False, default=str) + "\n" for review in reviews]
    storage.write_bytes(files[2], "".join(lines).encode())
    return files


def document(review: LabelingTask) -> dict[str, Any]:
    """One document. Whatever is not text, cats or entities becomes its metadata, and comes back with an export."""
    told = {"model": review.completion} if review.marks else {}
    about = {name: value for name, value in review.about.items() if name not in ("id", "label", "Comments")}
    return {**about, **told, "review_id": review.review_id, "text": review.text, "cats": [], "entities": []}


def _label_type(name: str) -> dict[str, Any]:
    return {"text": name, "prefixKey": None, "suffixKey": None, "backgroundColor": "#4c78a8", "textColor": "#ffffff"}


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every document; the labeller is the file's name, as doccano names the files of members."""
    for place, row in read_jsonl(uri):
        try:
            check("error" not in row, row.get("error", ""))
            yield _answer(place, row, taxonomy, uri.rsplit("/", 1)[-1].rsplit(".", 1)[0])
        except UserError as error:
            yield Annotation(place=place, error=str(error))


def _answer(place: str, row: dict[str, Any], taxonomy: Taxonomy, labeller: str) -> Annotation:
    labels = _rows(row, "label", "labels")
    cats = _rows(row, "cats") + [label for label in labels if isinstance(label, str)]
    marked = _rows(row, "entities") + [label for label in labels if not isinstance(label, str)]
    if not cats and not marked:
        return Annotation(place=place, skipped="unfinished")
    text = row.get("text")
    spans = [_span(each) for each in marked]
    found = labels_of(text if isinstance(text, str) else "", chosen(cats, taxonomy), spans, taxonomy)
    return Annotation(place=place, review_id=row.get("review_id"), text=text, labels=found, labeller=labeller)


def _rows(row: dict[str, Any], *names: str) -> list[Any]:
    found: Any = next((row[name] for name in names if row.get(name) is not None), [])
    check(isinstance(found, list), f"`{names[0]}` is not a list")
    return list(found)


def _span(entity: Any) -> tuple[Any, Any, Any]:
    """[start, end, label], or the object that a project with relations exports."""
    if isinstance(entity, dict):
        return entity.get("label"), entity.get("start_offset"), entity.get("end_offset")
    check(isinstance(entity, list) and len(entity) == 3, f"entity {entity!r} is not [start, end, label]")
    return entity[2], entity[0], entity[1]
