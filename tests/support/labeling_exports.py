"""What the labelling tools give back, as their exports look: made of what we gave them and of a labeller's answers."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_app import storage

Labels = list[dict[str, Any]]  # keyword, score, spans and perhaps opinions: [(start, end)] in code points
WHEN = "2026-11-22T09:30:00.123456Z"


def label_studio(folder: str, out: Path, answers: Mapping[str, Labels], labeller: Any = 7) -> str:
    """Export > JSON: every task with its annotation; an answer that is empty was skipped."""
    tasks = []
    for file in storage.list_files(folder, ".json"):
        for number, task in enumerate(storage.read_json(file.uri), 1):
            text, answer = task["data"]["text"], answers.get(task["data"]["review_id"])
            done = [] if answer is None else [_annotation(text, answer, labeller)]
            shown = {"id": number, "annotations": done, "file_upload": "x.json", "drafts": [], "predictions": [3]}
            tasks.append({**shown, "data": task["data"], "meta": {}, "inner_id": number, "project": 1})
    path = out / f"project-1-{labeller}.json"
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return str(path)


def _annotation(text: str, labels: Labels, labeller: Any) -> dict[str, Any]:
    result: list[dict[str, Any]] = []
    for label in labels:
        score = {"choices": [str(label["score"])]}
        result.append(_region("choices", f"score {label['keyword']}", score))
        for control, (start, end) in _marked(label, ("highlights", "opinions")):
            saved = re.sub("  +", " ", text[start:end]).replace("\n", "\\n").replace("\r", "\\n")  # as it is drawn
            value = {"start": start, "end": end, "text": saved, "labels": [label["keyword"]]}
            result.append(_region("labels", control, value))
    own = {"id": 12, "completed_by": labeller, "result": result, "was_cancelled": not labels, "ground_truth": False}
    return {**own, "created_at": "2026-11-22T09:00:00Z", "updated_at": WHEN, "lead_time": 3.2, "task": 1}


def _marked(label: dict[str, Any], kinds: tuple[str, str]) -> list[tuple[str, Any]]:
    """Every span of a label under one of two names: of words that name the keyword, of words that say the feeling."""
    return [(kinds[0], span) for span in label["spans"]] + [(kinds[1], span) for span in label.get("opinions", ())]


def _region(kind: str, control: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"value": value, "id": "a1", "from_name": control, "to_name": "text", "type": kind, "origin": "manual"}


def prodigy(folder: str, out: Path, answers: Mapping[str, Labels], labeller: Any = "round-1-kim") -> str:
    """`prodigy db-out`: only answered tasks are there; an answer that is empty was ignored."""
    rows = []
    for task in _lines(f"{folder}/tasks.jsonl"):
        answer = answers.get(task["review_id"])
        if answer is None:
            continue
        spans = [
            {"start": start, "end": end, "token_start": 0, "token_end": 0, "label": label["keyword"] + kind}
            for label in answer
            for kind, (start, end) in _marked(label, ("", ": opinion"))
        ]
        accept = [f"{label['keyword']} {label['score']}" for label in answer]
        done = {"spans": spans, "accept": accept, "answer": "accept" if answer else "ignore", "_view_id": "blocks"}
        own = {"_input_hash": 1, "_task_hash": -2, "_session_id": f"reviews-{labeller}", "_annotator_id": labeller}
        rows.append({**task, **done, **own, "_timestamp": 1_795_339_800})
    return _written(out / "dataset.jsonl", rows)


def doccano(folder: str, out: Path, answers: Mapping[str, Labels], labeller: Any = "kim") -> str:
    """Export dataset > JSONL: every document, with an id of doccano's own; one file per member."""
    rows = []
    for number, document in enumerate(_lines(f"{folder}/documents.jsonl"), 40):
        answer = answers.get(document["review_id"]) or []
        cats = sorted(f"{label['keyword']} {label['score']}" for label in answer)
        entities = sorted(
            [start, end, label["keyword"] + kind]
            for label in answer
            for kind, (start, end) in _marked(label, ("", ": opinion"))
        )
        rows.append({"id": number, **document, "cats": cats, "entities": entities, "Comments": []})
    return _written(out / f"{labeller}.jsonl", rows)


def spreadsheet(folder: str, out: Path, answers: Mapping[str, Labels], encoding: str = "utf-8-sig") -> str:
    """The Completion column filled in from the top and saved again as Excel does, `?` for what the encoding lacks."""
    import csv
    import io

    source = Path(f"{folder}/reviews.csv").read_bytes().decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(source, newline=""))
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(header)
    for (review_id, text, _, model), answer in zip(rows, answers.values(), strict=True):
        writer.writerow([review_id, text, ", ".join(f"{each['keyword']} {each['score']}" for each in answer), model])
    path = out / "kim.csv"
    path.write_bytes(sink.getvalue().encode(encoding, "replace"))
    return str(path)


def _lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def _written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)
