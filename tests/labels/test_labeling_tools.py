"""labeling_tools: what goes out to a tool comes back from it, and what is wrong in it is named with file and row."""

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app import storage
from ray_app.data.schema import ANALYSIS, ANSWERS
from ray_app.data.taxonomy import Keyword, Taxonomy, load
from ray_app.data.text import is_blank
from ray_app.errors import UserError
from ray_app.labels import labeling_tools, offsets, reader
from ray_app.labels.label_studio import config
from tests.support import labeling_exports

TAXONOMY = load()
CUSTOM = Taxonomy(
    name="넷",
    keywords=(Keyword(name='맛, "양"'), Keyword(name="4K 화질"), Keyword(name="-가격"), Keyword(name="a<b & c")),
    scores=(-10, 0, 7),
)
WHEN = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
PIECES = (
    *("배송", "늦어요", " ", "  ", "\n", "\r\n", "\t", "😀", "👍🏽", "𝒜", "é"),
    *('"', ",", "'", "=1+1", "-", "+", "@", "1", "?"),
)
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join).filter(lambda text: not is_blank(text))
IDS = st.sampled_from(("1", "00123", "=A1", "-5", "+7", "@x", "'1", "''=1", "리뷰 7", "3-1", "1e5", "a,b", 'c"d'))


@st.composite
def labeled(draw: st.DrawFn, taxonomy: Taxonomy) -> tuple[dict[str, str], dict[str, labeling_exports.Labels]]:
    """Texts by id, and the answer to some of them."""
    texts = {review_id: draw(TEXTS) for review_id in draw(st.lists(IDS, max_size=4, unique=True))}
    answers = {}
    for review_id, text in texts.items():
        keywords = draw(st.lists(st.sampled_from(taxonomy.names), max_size=3, unique=True))
        whole = sorted({*offsets.graphemes(text).values()})  # nobody can mark half an emoji
        edges = st.lists(st.sampled_from(whole), min_size=2, max_size=2, unique=True).map(sorted).map(tuple)
        spans = st.lists(edges, max_size=2, unique=True) if len(whole) > 1 else st.just([])
        answers[review_id] = [
            {
                "keyword": keyword,
                "score": draw(st.sampled_from(taxonomy.scores)),
                "spans": draw(spans),
                "opinions": draw(spans),
            }
            for keyword in keywords
        ]
    return texts, answers


def batch_of(texts: Mapping[str, str], **more: Any) -> pa.Table:
    given = {"review_id": pa.array(list(texts), pa.string()), "text": pa.array(list(texts.values()), pa.string())}
    return pa.table({**given, **more})


def expected(texts: Mapping[str, str], answers: Mapping[str, labeling_exports.Labels], spans: bool) -> dict[str, Any]:
    """Review id -> (text, keyword -> (score, the words that name it, the words that say the feeling))."""

    def marked(review_id: str, label: dict[str, Any], kind: str) -> set[str]:
        return {texts[review_id][start:end].strip() for start, end in label.get(kind, ()) if spans} - {""}

    return {
        review_id: (
            texts[review_id],
            {
                label["keyword"]: (
                    label["score"],
                    *(marked(review_id, label, kind) for kind in ("spans", "opinions")),
                )
                for label in answer
            },
        )
        for review_id, answer in answers.items()
        if answer
    }


def content(read: labeling_tools.Annotations) -> dict[str, Any]:
    assert read.table.schema == ANSWERS
    return {
        row["review_id"]: (
            row["text"],
            {
                label["keyword"]: (label["score"], *(set(label[kind] or ()) for kind in ("highlights", "opinions")))
                for label in row["labels"]
            },
        )
        for row in read.table.to_pylist()
    }


def there_and_back(
    tool: str, taxonomy: Taxonomy, texts: Mapping[str, str], label: Callable[[str, Path], str], known: bool = False
) -> labeling_tools.Annotations:
    with tempfile.TemporaryDirectory() as folder:
        batch = batch_of(texts)
        labeling_tools.export(batch, folder, taxonomy, [tool])
        out = Path(folder, "back")
        out.mkdir()
        return labeling_tools.read_annotations(label(f"{folder}/{tool}", out), taxonomy, batch=batch if known else None)


@pytest.mark.parametrize("taxonomy", [TAXONOMY, CUSTOM], ids=["shipped", "odd names"])
@pytest.mark.parametrize(
    ("tool", "label"),
    [
        ("label-studio", labeling_exports.label_studio),
        ("prodigy", labeling_exports.prodigy),
        ("doccano", labeling_exports.doccano),
    ],
)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_labels_come_back_from_a_tool_as_they_were_given(tool: str, label: Any, taxonomy: Taxonomy, data: Any) -> None:
    texts, answers = data.draw(labeled(taxonomy))
    read = there_and_back(tool, taxonomy, texts, lambda folder, out: label(folder, out, answers))
    assert content(read) == expected(texts, answers, spans=True)
    assert sum(read.skipped.values()) == sum(not answer for answer in answers.values())
    assert read.dropped == ()


@pytest.mark.parametrize(
    ("tool", "taxonomy", "answers"),
    [("label-studio", CUSTOM, 1), ("label-studio", TAXONOMY, 0), ("prodigy", CUSTOM, 1), ("prodigy", TAXONOMY, 0)],
)
def test_an_accepted_task_without_labels_is_an_answer_where_no_keyword_is_on_every_review(
    tool: str, taxonomy: Taxonomy, answers: int, tmp_path: Path
) -> None:
    labeling_tools.export(batch_of({"r1": "네"}), str(tmp_path), taxonomy, [tool])
    export = labeling_exports.label_studio if tool == "label-studio" else labeling_exports.prodigy
    uri = Path(export(str(tmp_path / tool), tmp_path, {"r1": []}))
    done = uri.read_text(encoding="utf-8").replace('"was_cancelled": true', '"was_cancelled": false')
    uri.write_text(done.replace('"answer": "ignore"', '"answer": "accept"'), encoding="utf-8")
    read = labeling_tools.read_annotations(str(uri), taxonomy)
    assert read.table["labels"].to_pylist() == [[]] * answers
    assert read.skipped == ({} if answers else {"unfinished": 1})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "cp949"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_labels_come_back_from_a_spreadsheet_as_they_were_given(encoding: str, data: Any) -> None:
    texts, answers = data.draw(labeled(TAXONOMY))
    read = there_and_back(
        "csv",
        TAXONOMY,
        texts,
        lambda folder, out: labeling_exports.spreadsheet(folder, out, answers, encoding),
        encoding == "cp949",
    )
    assert content(read) == expected(texts, answers, spans=False)
    assert read.skipped.get("unfinished", 0) == sum(not answer for answer in answers.values())


@given(cell=st.lists(st.sampled_from((*PIECES, "＝", "''", "1,2", ":", "E")), max_size=4).map("".join))
def test_no_cell_is_a_formula_and_every_cell_comes_back(cell: str) -> None:
    from ray_app.labels.spreadsheet import guard, unguard

    assert unguard(guard(cell)) == cell
    assert guard(cell)[:1] not in tuple("=+-@＝\t\r\n") or not cell
    assert not guard(cell).isdigit()


def test_a_spreadsheet_opens_in_excel_and_is_a_label_file_once_filled_in(tmp_path: Path) -> None:
    findings = [finding("배송", -1, "늦어요", 3)]
    batch = batch_of({"=1": "배송 늦어요"}, findings=pa.array([findings], dict(ANALYSIS)["findings"]))
    (uri,) = labeling_tools.export(batch, str(tmp_path), TAXONOMY, ["csv"])
    data = Path(uri).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.decode("utf-8-sig").split("\r\n")[:2] == ["review_id,text,Completion,Model", "'=1,배송 늦어요,,배송 -1"]
    Path(uri).write_bytes(data.replace(b",,", ",만족도 -1,".encode()))
    assert reader.read_labels(uri).table["review_id"].to_pylist() == ["=1"]


def test_a_findings_opinion_goes_out_to_every_tool_and_comes_back_with_the_labels(tmp_path: Path) -> None:
    own = finding("배송", -1, "배송은", 0) | {"opinion": {"word": "늦어요", "start": 4, "end": 7, "drop": 0.5}}
    batch = batch_of({"r1": "배송은 늦어요"}, findings=pa.array([[own]], dict(ANALYSIS)["findings"]))
    labeling_tools.export(batch, str(tmp_path), TAXONOMY, ["label-studio", "prodigy"])
    answer = {"r1": [{"keyword": "배송", "score": -1, "spans": [(0, 3)], "opinions": [(4, 7)]}]}
    for tool, export in (("label-studio", labeling_exports.label_studio), ("prodigy", labeling_exports.prodigy)):
        out = tmp_path / f"{tool}-back"
        out.mkdir()
        (row,) = labeling_tools.read_annotations(export(str(tmp_path / tool), out, answer), TAXONOMY).table.to_pylist()
        assert row["labels"] == [{"keyword": "배송", "score": -1, "highlights": ["배송은"], "opinions": ["늦어요"]}]
    task = json.loads((tmp_path / "prodigy" / "tasks.jsonl").read_text(encoding="utf-8"))
    assert [span["label"] for span in task["spans"]] == ["배송", "배송: opinion"]
    (sent,) = storage.read_json(str(tmp_path / "label-studio" / "tasks-00001.json"))
    regions = sent["predictions"][0]["result"]
    assert [region["from_name"] for region in regions] == ["score 배송", "highlights", "opinions"]


def finding(keyword: str, score: int, word: str | None, start: int, probability: float = 0.75) -> dict[str, Any]:
    highlight = {"word": word, "start": start, "end": start + len(word), "drop": 0.5} if word else None
    own = {"keyword": keyword, "probability": probability, "score": score, "score_probabilities": [1.0]}
    return {**own, "highlight": highlight}


def exported(tmp_path: Path, *tools: str) -> dict[str, Any]:
    """The only task that each tool is given, of a review with emoji, findings, and why it was chosen."""
    findings = [finding("배송", -1, "늦어요", 6), finding("만족도", 2, None, 0, 0.5)]
    batch = batch_of(
        {"r1": "😀 배송은 늦어요"},
        findings=pa.array([findings], dict(ANALYSIS)["findings"]),
        keyword_probabilities=pa.array([[0.5]]),
        boundary=pa.array([0.25]),
        mall=pa.array([None], pa.string()),
    )
    found = {}
    for uri in labeling_tools.export(batch, str(tmp_path), TAXONOMY, tools):
        lines = storage.read_bytes(uri).decode().split("\n")
        found[uri[len(str(tmp_path)) + 1 :]] = lines[0] if uri.endswith("jsonl") else "\n".join(lines)
    return found


def test_label_studio_gets_findings_as_predictions_of_its_own_format(tmp_path: Path) -> None:
    files = exported(tmp_path, "label-studio")
    (task,) = json.loads(files["label-studio/tasks-00001.json"])
    assert task["data"] == {"review_id": "r1", "text": "😀 배송은 늦어요", "boundary": 0.25}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("nunchi", 0.5)
    shown = [(region["from_name"], region["type"], region["value"]) for region in prediction["result"]]
    assert shown == [
        ("score 배송", "choices", {"choices": ["-1"]}),
        ("highlights", "labels", {"start": 6, "end": 9, "text": "늦어요", "labels": ["배송"]}),
        ("score 만족도", "choices", {"choices": ["2"]}),
    ]
    assert len({region["id"] for region in prediction["result"]}) == 3
    assert all(region["to_name"] == "text" for region in prediction["result"])


@pytest.mark.parametrize("taxonomy", [TAXONOMY, CUSTOM])
def test_label_studio_config_has_a_score_and_highlights_for_every_keyword(taxonomy: Taxonomy) -> None:
    view = ElementTree.fromstring(config(taxonomy))
    marks = {each.get("name"): [label.get("value") for label in each] for each in view.iter("Labels")}
    assert marks == {"highlights": list(taxonomy.names), "opinions": list(taxonomy.names)}
    choices = list(view.iter("Choices"))
    assert [each.get("name") for each in choices] == [f"score {name}" for name in taxonomy.names]
    assert all([c.get("value") for c in each] == [str(score) for score in taxonomy.scores] for each in choices)
    assert [e.get("name") for e in choices if e.get("required")] == [
        f"score {n}" for n in taxonomy.names if n == "만족도"
    ]
    names = [element.get("name") for element in view.iter() if element.get("name")]
    assert len(set(names)) == len(names)
    assert {element.get("toName") for element in view.iter() if element.get("toName")} == {"text"}


def test_prodigy_gets_findings_as_marked_spans_and_accepted_choices(tmp_path: Path) -> None:
    files = exported(tmp_path, "prodigy")
    task = json.loads(files["prodigy/tasks.jsonl"])
    assert [token["text"] for token in task["tokens"]] == ["😀", "배송은", "늦어요"]
    assert [(token["start"], token["end"], token["ws"]) for token in task["tokens"]] == [
        (0, 1, True),
        (2, 5, True),
        (6, 9, False),
    ]
    assert task["spans"] == [{"start": 6, "end": 9, "label": "배송", "token_start": 2, "token_end": 2}]
    assert task["accept"] == ["배송 -1", "만족도 2"]
    assert {"id": "배송 -1", "text": "배송 -1 불만"} in task["options"]
    assert len(task["options"]) == 75
    assert (task["review_id"], task["meta"]) == ("r1", {"boundary": 0.25})
    assert json.loads(files["prodigy/prodigy.json"])["labels"][:3] == ["스타일", "스타일: opinion", "만족도"]


def test_a_span_inside_a_word_has_tokens_of_its_own_in_prodigy(tmp_path: Path) -> None:
    given = [[{"keyword": "배송", "score": 1, "highlights": ["빠르고", "없는말"]}]]
    batch = batch_of({"r1": "배송빠르고옷도"}, labels=pa.array(given, ANSWERS.field("labels").type))
    uri = labeling_tools.export(batch, str(tmp_path), TAXONOMY, ["prodigy"])[-1]
    task = json.loads(Path(uri).read_text(encoding="utf-8"))
    assert [(token["text"], token["ws"]) for token in task["tokens"]] == [
        ("배송", False),
        ("빠르고", False),
        ("옷도", False),
    ]
    assert [(span["token_start"], span["token_end"]) for span in task["spans"]] == [(1, 1)]


def test_doccano_gets_no_labels_that_could_pass_for_a_persons(tmp_path: Path) -> None:
    files = exported(tmp_path, "doccano")
    document = json.loads(files["doccano/documents.jsonl"])
    assert (document["cats"], document["entities"], document["model"]) == ([], [], "배송 -1, 만족도 2")
    assert len(json.loads(files["doccano/categories.json"])) == 75
    spans = [each["text"] for each in json.loads(files["doccano/spans.json"])]
    assert spans == [name + kind for name in TAXONOMY.names for kind in ("", ": opinion")]
    assert labeling_tools.read_annotations(f"{tmp_path}/doccano/documents.jsonl", TAXONOMY).skipped == {"unfinished": 1}


def test_tasks_are_cut_into_files_that_label_studio_takes(tmp_path: Path) -> None:
    texts = {str(i): f"리뷰 {i}" for i in range(4_001)}
    _, *files = labeling_tools.export(batch_of(texts), str(tmp_path), TAXONOMY, ["label-studio"])
    assert [len(storage.read_json(file)) for file in files] == [2_000, 2_000, 1]
    assert labeling_tools.read_annotations(f"{tmp_path}/label-studio/tasks*.json", TAXONOMY).skipped == {
        "unfinished": 4_001
    }


def test_an_empty_batch_is_written_and_read(tmp_path: Path) -> None:
    files = labeling_tools.export(batch_of({}), str(tmp_path), TAXONOMY, labeling_tools.FORMATS)
    assert len(files) == 1 + 2 + 3 + 1 + 1
    read = labeling_tools.read_annotations(f"{tmp_path}/csv", TAXONOMY, batch=batch_of({}))
    assert (len(read.table), read.skipped, read.dropped) == (0, {}, ())


def test_labelers_and_times_are_those_of_the_tool(tmp_path: Path) -> None:
    labeling_tools.export(batch_of({"1": "굿"}), str(tmp_path), TAXONOMY, labeling_tools.FORMATS)
    out = tmp_path / "back"
    out.mkdir()
    answers: dict[str, labeling_exports.Labels] = {"1": [{"keyword": "만족도", "score": 2, "spans": []}]}
    labeling_exports.label_studio(f"{tmp_path}/label-studio", out, answers, 7)
    labeling_exports.label_studio(f"{tmp_path}/label-studio", out, answers, {"id": 8, "email": "lee@shop.kr"})
    labeling_exports.prodigy(f"{tmp_path}/prodigy", out, answers, "round-1-park")
    labeling_exports.doccano(f"{tmp_path}/doccano", out, answers, "choi")
    labeling_exports.spreadsheet(f"{tmp_path}/csv", out, answers)
    read = labeling_tools.read_annotations(str(out), TAXONOMY)
    who = {row["labeller"]: row["labelled_at"] for row in read.table.to_pylist()}
    exact = WHEN.replace(microsecond=123456)
    assert who == {"7": exact, "lee@shop.kr": exact, "round-1-park": WHEN, "choi": None, "kim": None}


def test_what_was_not_finished_is_counted_and_no_error(tmp_path: Path) -> None:
    labeling_tools.export(
        batch_of({str(i): "굿" for i in range(3)}), str(tmp_path), TAXONOMY, ["prodigy", "label-studio"]
    )
    out = tmp_path / "back"
    out.mkdir()
    answers: dict[str, labeling_exports.Labels] = {"0": [{"keyword": "만족도", "score": 2, "spans": []}], "1": []}
    read = labeling_tools.read_annotations(
        labeling_exports.label_studio(f"{tmp_path}/label-studio", out, answers), TAXONOMY
    )
    assert (len(read.table), read.skipped) == (1, {"skipped by the labeler": 1, "unfinished": 1})
    uri = labeling_exports.prodigy(f"{tmp_path}/prodigy", out, answers)
    with Path(uri).open("a", encoding="utf-8") as file:
        file.write('{"review_id": "2", "text": "굿", "answer": "reject", "accept": []}\n')
    assert labeling_tools.read_annotations(uri, TAXONOMY).skipped == {"ignored": 1, "rejected": 1}


def test_offsets_that_count_an_emoji_as_two_are_told_apart_by_the_saved_text(tmp_path: Path) -> None:
    texts = {"1": "😀👍 배송 늦어요"}
    labeling_tools.export(batch_of(texts), str(tmp_path), TAXONOMY, ["label-studio"])
    spans = {"1": [{"keyword": "배송", "score": -1, "spans": [(3, 5)]}]}
    uri = labeling_exports.label_studio(f"{tmp_path}/label-studio", tmp_path, spans)
    wide = Path(uri).read_text(encoding="utf-8").replace('"start": 3, "end": 5', '"start": 5, "end": 7')
    Path(uri).write_text(wide, encoding="utf-8")
    (row,) = labeling_tools.read_annotations(uri, TAXONOMY).table.to_pylist()
    assert row["labels"][0]["highlights"] == ["배송"]
    Path(uri).write_text(wide.replace('"start": 5', '"start": 6'), encoding="utf-8")
    with pytest.raises(UserError, match=r"row 1: the span 6-7 is outside the text or not '배송'"):
        labeling_tools.read_annotations(uri, TAXONOMY)


EMOJI = "👨\u200d👩\u200d👧👍🏽 배송 늦어요"  # 배송 begins at 8, in UTF-16 units at 13, in graphemes at 3


@pytest.mark.parametrize("start", [8, 13, 3], ids=["code points", "UTF-16", "graphemes"])
def test_label_studio_may_count_as_it_likes(tmp_path: Path, start: int) -> None:
    span = {"start": start, "end": start + 2, "text": "배송", "labels": ["배송"]}
    task = task_of(from_name="highlights", type="labels", value=span)
    task["data"]["text"] = EMOJI
    score = {"from_name": "score 배송", "to_name": "text", "type": "choices", "value": {"choices": ["-1"]}}
    task["annotations"][0]["result"].append(score)
    (tmp_path / "a.json").write_text(json.dumps([task]), encoding="utf-8")
    (row,) = labeling_tools.read_annotations(str(tmp_path), TAXONOMY).table.to_pylist()
    assert row["labels"][0]["highlights"] == ["배송"]


@pytest.mark.parametrize("start", [8, 13, 3], ids=["code points", "UTF-16", "graphemes"])
def test_prodigy_counts_as_its_tokens_do(tmp_path: Path, start: int) -> None:
    token, span = (
        {"start": start, "end": start + 2, "text": "배송"},
        {"start": start, "end": start + 2, "label": "배송"},
    )
    row = prodigy_of(text=EMOJI, tokens=[token], spans=[span])
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (answer,) = labeling_tools.read_annotations(str(tmp_path), TAXONOMY).table.to_pylist()
    assert answer["labels"][0]["highlights"] == ["배송"]
    (tmp_path / "a.jsonl").write_text(json.dumps({**row, "tokens": [{**token, "text": "늦어"}]}), encoding="utf-8")
    with pytest.raises(UserError, match="its tokens are not those of its text"):
        labeling_tools.read_annotations(str(tmp_path), TAXONOMY)


def test_spans_that_lie_in_the_text_in_utf16_only_are_taken_for_such(tmp_path: Path) -> None:
    row = doccano_of(text="😀😀 늦은 배송", entities=[[8, 10, "배송"]])
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (answer,) = labeling_tools.read_annotations(str(tmp_path), TAXONOMY).table.to_pylist()
    assert answer["labels"][0]["highlights"] == ["배송"]


@pytest.mark.parametrize(
    ("text", "span", "found"),
    [
        ("👨\u200d👩\u200d👧 배송 늦어요", (2, 4), ["배송"]),  # graphemes
        ("👨\u200d👩\u200d👧 배송 늦어요", (6, 8), ["배송"]),  # code points
        ("👨\u200d👩\u200d👧 배송 늦어요", (9, 11), ["늦어"]),  # code points that UTF-16 would also lie in
        ("👍🏽👍🏽 배송 늦어요", (3, 5), ["배송"]),
        ("🇰🇷🇰🇷 배송", (3, 5), ["배송"]),
        ("👍🏽👍🏽 배송 늦어요", (9, 11), ["어요"]),
        ("👍🏽 배송", (1, 2), None),  # nothing but a space
    ],
)
def test_a_span_that_cuts_a_character_is_counted_otherwise(
    text: str, span: tuple[int, int], found: list[str] | None, tmp_path: Path
) -> None:
    """doccano saves no words beside its offsets."""
    row = doccano_of(text=text, entities=[[*span, "배송"]])
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (answer,) = labeling_tools.read_annotations(str(tmp_path), TAXONOMY).table.to_pylist()
    assert answer["labels"][0]["highlights"] == found


def task_of(**result: Any) -> dict[str, Any]:
    region = {"from_name": "score 배송", "to_name": "text", "type": "choices", "value": {"choices": ["1"]}} | result
    done = {"id": 1, "completed_by": 1, "was_cancelled": False, "updated_at": labeling_exports.WHEN, "result": [region]}
    return {"id": 1, "data": {"review_id": "1", "text": "배송 굿"}, "annotations": [done]}


def span_of(start: Any, end: Any, keyword: str = "배송") -> dict[str, Any]:
    return task_of(from_name="highlights", type="labels", value={"start": start, "end": end, "labels": [keyword]})


def prodigy_of(**more: Any) -> dict[str, Any]:
    return {"review_id": "1", "text": "배송 굿", "answer": "accept", "accept": ["배송 1"], "spans": []} | more


def doccano_of(**more: Any) -> dict[str, Any]:
    return {"id": 9, "review_id": "1", "text": "배송 굿", "cats": ["배송 1"], "entities": []} | more


BAD: list[tuple[str, Any, str]] = [
    ("a.json", task_of(from_name="score 배숑"), "unknown keyword '배숑'; did you mean '배송'?"),
    ("a.json", task_of(value={"choices": ["3"]}), "배송: score 3 is out of range; the scale is -2, -1, 0, 1, 2"),
    ("a.json", task_of(value={"choices": ["1", "2"]}), "duplicate keyword '배송'"),
    ("a.json", task_of(value={"choices": ["좋음"]}), "배송: score '좋음' is out of range"),
    ("a.json", task_of(value={}), "not an annotation of this config (KeyError('choices'))"),
    ("a.json", span_of(0, 99), "배송: the span 0-99 is outside the text of 4 characters"),
    ("a.json", span_of(2, 2), "배송: the span 2-2 is outside"),
    ("a.json", span_of("0", 2), "배송: the span 0-2 is outside"),
    ("a.json", span_of(0, 2), "배송: words are highlighted but no score is given"),
    ("a.json", span_of(0, 2, "배숑"), "unknown keyword '배숑'; did you mean '배송'?"),
    (
        "a.json",
        {"id": 1, "text": "굿", "score 배송": "1"},
        "not a task with its `data`; in Label Studio choose Export > JSON",
    ),
    ("a.json", task_of() | {"data": {"text": "배송 굿"}}, "null review_id"),
    ("a.json", task_of() | {"data": {"review_id": "1"}}, "null or empty text"),
    ("a.jsonl", prodigy_of(accept=["배숑 1"]), "unknown keyword '배숑'; did you mean '배송'?"),
    ("a.jsonl", prodigy_of(accept=["배송 9"]), "배송: score 9 is out of range"),
    ("a.jsonl", prodigy_of(accept=["배송"]), "'배송' is not a keyword and a score such as '배송 -1'"),
    ("a.jsonl", prodigy_of(accept=["배송 1", "배송 2"]), "duplicate keyword '배송'"),
    ("a.jsonl", prodigy_of(answer="maybe"), "answer 'maybe' is not accept, reject or ignore"),
    ("a.jsonl", prodigy_of(spans=[{"start": 0, "end": 2}]), "unknown keyword None"),
    ("a.jsonl", prodigy_of(spans=[{"start": -1, "end": 2, "label": "배송"}]), "배송: the span -1-2 is outside"),
    ("a.jsonl", prodigy_of(spans="배송"), "`spans` must be a list of spans and `accept` a list of choices"),
    ("a.jsonl", prodigy_of(_timestamp="어제"), "'어제' is not a time such as"),
    ("a.jsonl", doccano_of(cats=["배송 1", "배송 -1"]), "duplicate keyword '배송'"),
    ("a.jsonl", doccano_of(entities=[[0, 9, "배송"]]), "배송: the span 0-9 is outside the text of 4 characters"),
    ("a.jsonl", doccano_of(entities=[[0, 2]]), "entity [0, 2] is not [start, end, label]"),
    ("a.jsonl", doccano_of(cats="배송 1"), "`cats` is not a list"),
    ("a.jsonl", doccano_of(entities=[[0, 2, ["배송"]]]), "unknown keyword ['배송']"),
    ("a.jsonl", doccano_of(label=[[0, 2, {"a": 1}]]), "unknown keyword {'a': 1}"),
    ("a.jsonl", prodigy_of(spans=[{"start": 0, "end": 2, "label": ["배송"]}]), "unknown keyword ['배송']"),
    ("a.jsonl", doccano_of(text="배송 \ud83d"), "half a character in it"),
    ("a.jsonl", doccano_of(review_id=None), "null review_id"),
]


@pytest.mark.parametrize(("name", "bad", "words"), BAD)
def test_a_malformed_entry_is_named_with_file_and_row(tmp_path: Path, name: str, bad: Any, words: str) -> None:
    good = task_of() if name == "a.json" else doccano_of() if "cats" in bad else prodigy_of()
    (good["data"] if name == "a.json" else good)["review_id"] = "0"
    rows = [good, bad]
    path = tmp_path / name
    text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        labeling_tools.read_annotations(str(path), TAXONOMY)
    assert str(caught.value).startswith(f"{path} row 2: {words}")
    assert "\n" not in str(caught.value)
    read = labeling_tools.read_annotations(str(path), TAXONOMY, "drop")
    assert read.table["review_id"].to_pylist() == ["0"]
    assert [line.startswith(f"{path} row 2: {words}") for line in read.dropped] == [True]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.json", "{}", "not a list of tasks; in Label Studio choose Export > JSON"),
        ("a.json", "[", "not JSON"),
        ("a.txt", "x", "write a .json, .jsonl, .csv, .tsv or .xlsx file"),
        ("a.csv", "id,본문\n1,굿", "needs a text column and a Completion column"),
        ("a.jsonl", '{"text": ', "row 1: not JSON"),
        ("a.csv", "id,text,Completion\n1,굿,배송 1\n1,굿,배송 2", "row 3: review_id '1' was seen at"),
        ("a.csv", "id,text,Completion,labelled_at\n1,굿,배송 1,곧", "row 2: '곧' is not a time"),
    ],
)
def test_a_file_that_is_no_export_is_named(tmp_path: Path, name: str, data: str, words: str) -> None:
    (tmp_path / name).write_text(data, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        labeling_tools.read_annotations(str(tmp_path / name), TAXONOMY)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert words in str(caught.value)


def test_answers_must_be_to_the_batch_that_went_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "id,text,Completion\n1,굿 ??,배송 1\n2,다른 말,배송 1\n9,굿,배송 1", encoding="utf-8"
    )
    read = labeling_tools.read_annotations(
        str(tmp_path / "a.csv"), TAXONOMY, "drop", batch_of({"1": "굿 😀", "2": "같은 말"})
    )
    assert read.table["text"].to_pylist() == ["굿 😀"]
    assert [line.split(": ", 1)[1] for line in read.dropped] == [
        "the text is not that of review '2' in the batch that went out",
        "review_id '9' is not in the batch that went out",
    ]


def test_a_batch_is_never_written_over_another_and_needs_its_columns(tmp_path: Path) -> None:
    labeling_tools.export(batch_of({"1": "굿"}), str(tmp_path), TAXONOMY, ["csv"])
    with pytest.raises(UserError, match=r"csv holds a batch already; choose another folder"):
        labeling_tools.export(batch_of({"1": "굿"}), str(tmp_path), TAXONOMY, ["csv"])
    with pytest.raises(UserError, match="--formats prodgy: no such format; did you mean 'prodigy'"):
        labeling_tools.export(batch_of({"1": "굿"}), str(tmp_path), TAXONOMY, ["prodgy"])
    with pytest.raises(UserError, match="the batch has no column 'text'"):
        labeling_tools.export(batch_of({"1": "굿"}).drop_columns(["text"]), str(tmp_path / "b"), TAXONOMY, ["csv"])


def test_tasks_of_label_studio_as_lines_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(task_of()), encoding="utf-8")
    with pytest.raises(UserError, match=r"Label Studio's tasks, one per line; export them as JSON \(\.json\)"):
        labeling_tools.read_annotations(str(tmp_path / "a.jsonl"), TAXONOMY)
