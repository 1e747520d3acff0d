"""Label Studio: tasks with pre-annotations and a labeling config out, its JSON export in (tried with 1.23).

Out: `tasks-00001.json` … (its importer is slow with more than TASKS per file) and `config.xml` for Settings > Labeling
Interface. In: Export > JSON, in which a task has an annotation per labeler (JSON-MIN leaves too much out).
Offsets of spans are code points (`charsToCodePoints` in its editor); versions that count UTF-16 units or graphemes are
recognized by the text they save beside a span.
"""

import colorsys
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ray_app import storage
from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.data.text import Span
from ray_app.errors import UserError, check
from ray_app.labels import offsets
from ray_app.labels.annotations import OPINION, Annotation, LabelingTask, SuggestedLabel, parse_time, to_labels
from ray_app.labels.rows import Row

TASKS = 2_000  # per file
HIGHLIGHTS, OPINIONS, TEXT = "highlights", "opinions", "text"
MARKS = {HIGHLIGHTS: "words that name the keyword", OPINIONS: "words that say the feeling"}
_SCORE = "score "


def write(folder: str, tasks: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes tasks and config; returns their URIs."""
    files = [storage.join(folder, "config.xml")]
    storage.write_bytes(files[0], config(taxonomy).encode())
    for number, chunk in enumerate(_chunks(tasks), 1):
        files.append(storage.join(folder, f"tasks-{number:05d}.json"))
        storage.write_json(files[-1], [to_json(task) for task in chunk])
    return files


def _chunks(tasks: Iterable[LabelingTask]) -> Iterator[list[LabelingTask]]:
    """Lists of at most TASKS tasks."""
    rest = iter(tasks)
    while chunk := list(itertools.islice(rest, TASKS)):
        yield chunk


def config(taxonomy: Taxonomy) -> str:
    """The labeling interface: over the text what can be marked for every keyword, words that name it and words that say
    the feeling; below, per keyword, its guideline and a score."""
    view = ElementTree.Element("View")
    for name, title in MARKS.items():
        ElementTree.SubElement(view, "Header", value=title, size="6")
        spans = ElementTree.SubElement(view, "Labels", name=name, toName=TEXT)
        for i, keyword in enumerate(taxonomy.keywords):
            ElementTree.SubElement(spans, "Label", value=keyword.name, background=_color(i, len(taxonomy.keywords)))
    ElementTree.SubElement(view, "Text", name=TEXT, value="$text", granularity="symbol")
    grid = ElementTree.SubElement(view, "View", style="display: grid; grid-template-columns: 1fr 1fr; gap: 0 2em")
    for keyword in taxonomy.keywords:
        _add_scores(ElementTree.SubElement(grid, "View"), keyword, taxonomy)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _add_scores(view: Element, keyword: Keyword, taxonomy: Taxonomy) -> None:
    """A keyword's guideline and the choice of its score; only the overall keyword's is required."""
    guideline = f"{keyword.name}: {keyword.belongs}" if keyword.belongs else keyword.name
    ElementTree.SubElement(view, "Header", value=guideline, size="6")
    attributes = {"name": _SCORE + keyword.name, "toName": TEXT, "choice": "single", "showInline": "true"}
    required = {"required": "true"} if keyword.name == taxonomy.overall else {}
    choices = ElementTree.SubElement(view, "Choices", attributes | required)
    for score in taxonomy.scores:
        hint = {"hint": taxonomy.score_names[score]} if score in taxonomy.score_names else {}
        ElementTree.SubElement(choices, "Choice", {"value": str(score), **hint})


def _color(i: int, count: int) -> str:
    """The i-th of evenly spread hues, as #rrggbb."""
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colorsys.hls_to_rgb(i / count, 0.6, 0.7))


def to_json(task: LabelingTask) -> Row:
    """One task; its prediction's score is its lowest keyword probability, so that tasks can be sorted by it."""
    data = {"review_id": task.review_id, "text": task.text, **_plain(task.metadata)}
    result = [region for i, label in enumerate(task.suggestions) for region in _regions(task.text, label, i)]
    probabilities = [label.probability for label in task.suggestions if label.probability is not None]
    score = {"score": round(min(probabilities), 4)} if probabilities else {}
    return {"data": data, "predictions": [{"model_version": "nunchi", **score, "result": result}] if result else []}


def _plain(metadata: Row) -> Row:
    """Metadata as JSON values, without the names that a task's data uses."""
    others = {name: value for name, value in metadata.items() if name not in ("review_id", "text")}
    return dict(json.loads(json.dumps(others, default=str)))


def _regions(text: str, label: SuggestedLabel, number: int) -> Iterator[Row]:
    """A suggestion's score and marked spans as regions of a prediction."""
    yield _region(f"score-{number}", _SCORE + label.keyword, "choices", {"choices": [str(label.score)]})
    for kind, control, spans in (("highlight", HIGHLIGHTS, label.spans), ("opinion", OPINIONS, label.opinions)):
        for i, (start, end) in enumerate(spans):
            span: Row = {"start": start, "end": end, "text": text[start:end], "labels": [label.keyword]}
            yield _region(f"{kind}-{number}-{i}", control, "labels", span)


def _region(name: str, control: str, kind: str, value: Row) -> Row:
    return {"id": name, "from_name": control, "to_name": TEXT, "type": kind, "value": value}


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every annotation of every task. Raises UserError where the file is not such an export."""
    tasks = storage.read_json(uri)
    check(isinstance(tasks, list), f"{uri}: not a list of tasks; in Label Studio choose Export > JSON")
    for number, each in enumerate(tasks, 1):
        location = f"{uri} row {number}"
        if not isinstance(each, dict) or not isinstance(each.get("data"), dict):
            problem = "not a task with its `data`; in Label Studio choose Export > JSON, not JSON-MIN"
            yield Annotation(location=location, error=problem)
            continue
        annotations = each.get("annotations") or []
        if not annotations:
            yield Annotation(location=location, skipped="unfinished")
        for i, annotation in enumerate(annotations, 1):
            exact = f"{location} annotation {i}" if len(annotations) > 1 else location
            try:
                yield _annotation(exact, each["data"], annotation, taxonomy)
            except UserError as error:
                yield Annotation(location=exact, error=str(error))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                yield Annotation(location=exact, error=f"not an annotation of this config ({error!r})")


def _annotation(location: str, data: dict[str, Any], content: dict[str, Any], taxonomy: Taxonomy) -> Annotation:
    """An annotation of a task with this data. Raises UserError, KeyError, TypeError, … where it is malformed."""
    if content.get("was_cancelled"):
        return Annotation(location=location, skipped="skipped by the labeler")
    text, pairs, spans = data.get("text"), [], []
    for region in content["result"]:
        value = region.get("value", {})
        if region.get("type") == "choices" and region["from_name"].startswith(_SCORE):
            pairs += [(region["from_name"][len(_SCORE) :], _score(chosen)) for chosen in value["choices"]]
        elif region.get("type") == "labels" and isinstance(text, str):
            start, end = _span(text, value)
            kind = OPINION if region.get("from_name") == OPINIONS else ""
            spans += [(f"{keyword}{kind}", start, end) for keyword in value["labels"]]
    if not pairs and not spans and taxonomy.overall:
        return Annotation(location=location, skipped="unfinished")
    user, time = content.get("completed_by"), parse_time(content.get("updated_at") or content.get("created_at"))
    labeler = str((user.get("email") or user["id"]) if isinstance(user, dict) else "" if user is None else user)
    labels = to_labels(text or "", pairs, spans, taxonomy)
    return Annotation(
        location=location, review_id=data.get("review_id"), text=text, labels=labels, labeler=labeler, labeled_at=time
    )


def _score(chosen: str) -> int | str:
    """The number where it is one; anything else is rejected when labels are checked."""
    try:
        return int(chosen)
    except ValueError:
        return chosen


def _span(text: str, value: dict[str, Any]) -> Span:
    """(start, end) in code points. Raises UserError where the text there is not the one that the editor saved."""
    start, end, saved = value["start"], value["end"], value.get("text")
    if not saved or not isinstance(start, int) or not isinstance(end, int) or offsets.same(text[start:end], saved):
        return start, end
    for first, last in offsets.readings(text, start, end):
        if offsets.same(text[first:last], saved):
            return first, last
    raise UserError(f"the span {start}-{end} is outside the text or not {saved!r}")
