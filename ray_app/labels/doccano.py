"""doccano: documents and label types of a project out, its JSONL export in (1.8, Intent Detection and Slot Filling).

Out: `documents.jsonl`, `categories.json` and `spans.json` (Labels > Import). doccano cannot tell an imported label
from a labeler's own, so documents carry none: the model's labels are in their metadata. In: an export with `cats` and
`entities`, one file per member named after them; choose "export only approved documents". Offsets are code points;
the project must not be set to count grapheme clusters.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError
from ray_app.labels.annotations import OPINION, Annotation, LabelingTask, choice, parse_choices, to_labels
from ray_app.labels.rows import Row, check_readable, read_jsonl


def write(folder: str, tasks: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes documents and label types; returns their URIs."""
    files = [storage.join(folder, name) for name in ("categories.json", "spans.json", "documents.jsonl")]
    choices = [choice(name, score) for name in taxonomy.names for score in taxonomy.scores]
    storage.write_json(files[0], [_label_type(name) for name in choices])
    spans = [name + kind for name in taxonomy.names for kind in ("", OPINION)]
    storage.write_json(files[1], [_label_type(name) for name in spans])
    lines = [json.dumps(document(task), ensure_ascii=False, default=str) + "\n" for task in tasks]
    storage.write_bytes(files[2], "".join(lines).encode())
    return files


def document(task: LabelingTask) -> Row:
    """One document. All but text, cats and entities is its metadata and comes back with an export."""
    model = {"model": task.completion} if task.suggestions else {}
    metadata = {name: value for name, value in task.metadata.items() if name not in ("id", "label", "Comments")}
    return {**metadata, **model, "review_id": task.review_id, "text": task.text, "cats": [], "entities": []}


def _label_type(name: str) -> Row:
    return {"text": name, "prefixKey": None, "suffixKey": None, "backgroundColor": "#4c78a8", "textColor": "#ffffff"}


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every document; the labeler is the file's name, because doccano names each file after a member."""
    labeler = uri.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for location, row in read_jsonl(uri):
        try:
            check_readable(row)
            yield _annotation(location, row, taxonomy, labeler)
        except UserError as error:
            yield Annotation(location=location, error=str(error))


def _annotation(location: str, row: Row, taxonomy: Taxonomy, labeler: str) -> Annotation:
    labels = _list(row, ("label", "labels"))
    cats = _list(row, ("cats",)) + [label for label in labels if isinstance(label, str)]
    entities = _list(row, ("entities",)) + [label for label in labels if not isinstance(label, str)]
    if not cats and not entities:
        return Annotation(location=location, skipped="unfinished")
    text = row.get("text")
    spans = [_span(entity) for entity in entities]
    chosen = to_labels(text if isinstance(text, str) else "", parse_choices(cats, taxonomy), spans, taxonomy)
    return Annotation(location=location, review_id=row.get("review_id"), text=text, labels=chosen, labeler=labeler)


def _list(row: Row, names: Sequence[str]) -> list[object]:
    """The value of the first of these keys that is not null, [] where all are. Raises UserError where it is no list."""
    value = next((row[name] for name in names if row.get(name) is not None), [])
    if not isinstance(value, list):
        raise UserError(f"`{names[0]}` is not a list")
    return value


def _span(entity: object) -> tuple[object, object, object]:
    """(keyword, start, end) of `[start, end, label]`, or of the object that a project with relations exports."""
    if isinstance(entity, dict):
        return entity.get("label"), entity.get("start_offset"), entity.get("end_offset")
    if not isinstance(entity, list) or len(entity) != 3:
        raise UserError(f"entity {entity!r} is not [start, end, label]")
    return entity[2], entity[0], entity[1]
