"""Label Studio: tasks with pre-annotations and a labelling config out, its JSON export in (tried with 1.23).

Out: `tasks-00001.json` … (its importer is slow with more tasks than TASKS) and `config.xml` for Settings > Labeling
Interface. In: Export > JSON, in which a task has an annotation per labeller (JSON-MIN leaves too much out).
Offsets of spans are code points (`charsToCodePoints` in its editor); versions that counted an emoji as two are told
apart by the text they save beside a span.
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
from ray_app.labels.annotations import Annotation, LabelingTask, labels_of, moment

TASKS = 2_000
HIGHLIGHTS, TEXT = "highlights", "text"
_SCORE = "score "


def write(folder: str, reviews: Iterable[LabelingTask], taxonomy: Taxonomy) -> list[str]:
    """Writes tasks and config; returns their URIs."""
    files = [storage.join(folder, "config.xml")]
    storage.write_bytes(files[0], config(taxonomy).encode())
    for number, part in enumerate(_parts(reviews), 1):
        files.append(storage.join(folder, f"tasks-{number:05d}.json"))
        storage.write_json(files[-1], [task(review) for review in part])
    return files


def _parts(reviews: Iterable[LabelingTask]) -> Iterator[list[LabelingTask]]:
    rest = iter(reviews)
    while part := list(itertools.islice(rest, TASKS)):
        yield part


def config(taxonomy: Taxonomy) -> str:
    """The labelling interface: highlights of every keyword over the text, and per keyword its guideline and a score."""
    view = ElementTree.Element("View")
    spans = ElementTree.SubElement(view, "Labels", name=HIGHLIGHTS, toName=TEXT)
    for i, keyword in enumerate(taxonomy.keywords):
        ElementTree.SubElement(spans, "Label", value=keyword.name, background=_color(i, len(taxonomy.keywords)))
    ElementTree.SubElement(view, "Text", name=TEXT, value="$text", granularity="symbol")
    grid = ElementTree.SubElement(view, "View", style="display: grid; grid-template-columns: 1fr 1fr; gap: 0 2em")
    for keyword in taxonomy.keywords:
        _add_scores(ElementTree.SubElement(grid, "View"), keyword, taxonomy)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _add_scores(view: Element, keyword: Keyword, taxonomy: Taxonomy) -> None:
    guideline = f"{keyword.name}: {keyword.belongs}" if keyword.belongs else keyword.name
    ElementTree.SubElement(view, "Header", value=guideline, size="6")
    shown = {"name": _SCORE + keyword.name, "toName": TEXT, "choice": "single", "showInline": "true"}
    needed = {"required": "true"} if keyword.name == taxonomy.overall else {}
    choices = ElementTree.SubElement(view, "Choices", shown | needed)
    for score in taxonomy.scores:
        hint = {"hint": taxonomy.score_names[score]} if score in taxonomy.score_names else {}
        ElementTree.SubElement(choices, "Choice", {"value": str(score), **hint})


def _color(at: int, count: int) -> str:
    """Hues spread evenly, as #rrggbb."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(at / count, 0.6, 0.7))


def task(review: LabelingTask) -> dict[str, Any]:
    """One task; its prediction's score is that of the least sure keyword, so that tasks can be sorted by it."""
    data = {"review_id": review.review_id, "text": review.text, **_plain(review.about)}
    result = [region for i, mark in enumerate(review.marks) for region in _regions(review.text, mark, i)]
    sure = [mark.probability for mark in review.marks if mark.probability is not None]
    score = {"score": round(min(sure), 4)} if sure else {}
    return {"data": data, "predictions": [{"model_version": "nunchi", **score, "result": result}] if result else []}


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON knows, under names that are not the task's own."""
    kept = {name: value for name, value in about.items() if name not in ("review_id", "text")}
    return dict(json.loads(json.dumps(kept, default=str)))


def _regions(text: str, mark: Any, at: int) -> Iterator[dict[str, Any]]:
    score = {"choices": [str(mark.score)]}
    yield _region(f"score-{at}", _SCORE + mark.keyword, "choices", score)
    for i, (start, end) in enumerate(mark.spans):
        span = {"start": start, "end": end, "text": text[start:end], "labels": [mark.keyword]}
        yield _region(f"highlight-{at}-{i}", HIGHLIGHTS, "labels", span)


def _region(name: str, control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": control, "to_name": TEXT, "type": kind, "value": value}


def read(uri: str, taxonomy: Taxonomy) -> Iterator[Annotation]:
    """Every annotation of every task. Raises UserError where the file is not such an export."""
    tasks = storage.read_json(uri)
    check(isinstance(tasks, list), f"{uri}: not a list of tasks; in Label Studio choose Export > JSON")
    for number, each in enumerate(tasks, 1):
        place = f"{uri} row {number}"
        if not isinstance(each, dict) or not isinstance(each.get("data"), dict):
            yield Annotation(
                place=place, error="not a task with its `data`; in Label Studio choose Export > JSON, not JSON-MIN"
            )
            continue
        annotations = each.get("annotations") or []
        if not annotations:
            yield Annotation(place=place, skipped="unfinished")
        for i, annotation in enumerate(annotations, 1):
            where = f"{place} annotation {i}" if len(annotations) > 1 else place
            try:
                yield _answer(where, each["data"], annotation, taxonomy)
            except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
                what = str(error) if isinstance(error, UserError) else f"not an annotation of this config ({error!r})"
                yield Annotation(place=where, error=what)


def _answer(place: str, data: dict[str, Any], annotation: dict[str, Any], taxonomy: Taxonomy) -> Annotation:
    if annotation.get("was_cancelled"):
        return Annotation(place=place, skipped="skipped by the labeller")
    text, pairs, spans = data.get("text"), [], []
    for region in annotation["result"]:
        value = region.get("value", {})
        if region.get("type") == "choices" and region["from_name"].startswith(_SCORE):
            pairs += [(region["from_name"][len(_SCORE) :], _score(given)) for given in value["choices"]]
        elif region.get("type") == "labels" and isinstance(text, str):
            start, end = _span(text, value)
            spans += [(keyword, start, end) for keyword in value["labels"]]
    if not pairs and not spans:
        return Annotation(place=place, skipped="unfinished")
    who, when = annotation.get("completed_by"), moment(annotation.get("updated_at") or annotation.get("created_at"))
    labeller = str((who.get("email") or who["id"]) if isinstance(who, dict) else "" if who is None else who)
    labels = labels_of(text or "", pairs, spans, taxonomy)
    return Annotation(
        place=place, review_id=data.get("review_id"), text=text, labels=labels, labeller=labeller, labelled_at=when
    )


def _score(given: str) -> Any:
    """The number where it is one; anything else is refused later, by its name."""
    try:
        return int(given)
    except ValueError:
        return given


def _span(text: str, value: dict[str, Any]) -> Span:
    """(start, end) in code points. Raises UserError where the review does not say there what was saved as marked."""
    start, end, saved = value["start"], value["end"], value.get("text")
    if not saved or not isinstance(start, int) or _same(text[start:end], saved):
        return start, end
    wide = text.encode("utf-16-le")
    before, marked = wide[: 2 * start], wide[2 * start : 2 * end]
    if _same(marked.decode("utf-16-le", "replace"), saved):
        first = len(before.decode("utf-16-le", "replace"))
        return first, first + len(marked.decode("utf-16-le", "replace"))
    raise UserError(f"the span {start}-{end} is outside the text or not {saved!r}")


def _same(marked: str, saved: str) -> bool:
    """Alike but for white space: the editor saves a line break as the two characters \\n and folds spaces."""
    return "".join(marked.split()) == "".join(saved.replace("\\n", " ").split())
