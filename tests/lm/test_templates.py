"""templates: the texts a model sees are exactly these, and what it writes is read back."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ray_app.data import taxonomy
from ray_app.errors import UserError
from ray_app.lm import templates

KNOWN = taxonomy.load()
ROW: dict[str, Any] = {
    "text": "옷은 예쁘지만 배송은 늦어요",
    "labels": [
        {"keyword": "디자인", "score": 1, "highlights": ["예쁘지만"]},
        {"keyword": "배송", "score": -1, "highlights": ["배송은", "늦어요"]},
        {"keyword": "만족도", "score": 0, "highlights": None},
    ],
}
ANSWER = {
    "question": "지원 동기는요?",
    "experience": "신입",
    "occupation": "디자인",
    "answer": "어, {저는} 네",
}
EXPECTED = [
    (
        "review",
        ROW,
        "###입력: 옷은 예쁘지만 배송은 늦어요 \n###명령어: 리뷰를 분석해줘 \n###출력:",
        " 디자인1, 배송-1, 만족도0",
        " \n###명령어: 리뷰를 분석해줘 \n###출력:",
    ),
    (
        "review_evidence",
        ROW,
        "###입력: 옷은 예쁘지만 배송은 늦어요 \n###명령어: 근거가 되는 말을 먼저 찾고 리뷰를 분석해줘 \n###근거:",
        " 예쁘지만(디자인), 배송은 늦어요(배송) \n###출력: 디자인1, 배송-1, 만족도0",
        " \n###명령어: 근거가 되는 말을 먼저 찾고 리뷰를 분석해줘 \n###근거:",
    ),
    (
        "interview",
        ANSWER,
        " 질문: 지원 동기는요? 경력: 신입 직업: 디자인 답변:",
        " 어, {저는} 네 ",
        " 답변:",
    ),
]
FINDINGS = st.lists(
    st.tuples(st.sampled_from(KNOWN.names), st.sampled_from(KNOWN.scores)), min_size=1, unique_by=lambda pair: pair[0]
)


@pytest.mark.parametrize(("name", "row", "prompt", "completion", "tail"), EXPECTED)
def test_the_shipped_templates_write_exactly_this(name: str, row: Any, prompt: str, completion: str, tail: str) -> None:
    template = templates.load(name)
    assert (template.prompt(row), template.completion(row)) == (prompt, completion)
    assert template.tail == tail
    assert template.prompt({k: v for k, v in row.items() if k not in ("labels", "answer")}) == prompt
    assert templates.from_dict(template.to_dict(), "x") == template


@pytest.mark.parametrize("name", ["review", "review_evidence"])
@given(FINDINGS, st.sampled_from(["", " \n###입력: 다음 리뷰 \n###출력: 배송2", "\n"]))
def test_a_completion_is_read_back(name: str, findings: list[tuple[str, int]], more: str) -> None:
    template = templates.load(name)
    row = {**ROW, "labels": [{"keyword": k, "score": s, "highlights": [k, "1"]} for k, s in findings]}
    assert template.parse(template.completion(row) + more, KNOWN) == templates.Parsed(dict(findings), ())


@pytest.mark.parametrize(
    ("text", "scores", "bad"),
    [
        (" 디자인 1,배송 -1, ", {"디자인": 1, "배송": -1}, ()),
        ("디자인1, 디자인2, 배송", {"디자인": 1}, ("디자인2", "배송")),
        ("디자인3, 향기1, 핏+2", {"핏": 2}, ("디자인3", "향기1")),
        ("", {}, ()),
        ("잘 모르겠습니다", {}, ("잘 모르겠습니다",)),
    ],
)
def test_what_is_no_keyword_and_score_is_bad(text: str, scores: dict[str, int], bad: tuple[str, ...]) -> None:
    assert templates.load("review").parse(text, KNOWN) == templates.Parsed(scores, bad)


def test_the_answer_of_a_chain_of_thought_is_what_follows_its_last_mark() -> None:
    template = templates.load("review_evidence")
    assert template.answer(" 예쁘지만(디자인) \n###출력: 디자인1 \n###입력: 또") == "디자인1"
    assert templates.load("interview").answer(" 네 그렇습니다 질문: 다음은요?") == "네 그렇습니다"


def test_few_shot_prompts_show_solved_examples_first() -> None:
    template = templates.load("review")
    prompt, solved = template.prompt(ROW), template.prompt(ROW) + template.completion(ROW)
    assert templates.few_shot(template, [], ROW) == template.prompt_parts(ROW)
    shown = templates.few_shot(template, [ROW, ROW], ROW)
    assert "".join(shown) == f"{solved}\n\n{solved}\n\n{prompt}"
    assert shown[1::2] == [*template.prompt_parts(ROW)[1::2], *template.completion_parts(ROW)[1::2]] * 2 + [ROW["text"]]


def entry(**changes: Any) -> dict[str, Any]:
    return {"reads": "table", "prompt": "Q: {q}\nA:", "completion": " {a}", **changes}


def test_a_new_task_is_a_new_entry(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"faq": entry()}), encoding="utf-8")
    template = templates.load("faq", path)
    row = {"q": "교환되나요?", "a": "네", "other": 1}
    assert template.columns == ("q", "a")
    assert template.prompt(row) + template.completion(row) == "Q: 교환되나요?\nA: 네"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"faq": entry(reads="rows")}, "reads 'rows'; write labels or table"),
        ({"faq": entry(stopp="x")}, "unknown key 'stopp'; did you mean 'stop'?"),
        ({"faq": {"reads": "table", "prompt": "{q}"}}, "faq has no 'completion'"),
        ({"faq": entry(completion=" yes")}, "the completion names no field"),
        ({"faq": entry(prompt="{q} {", completion="{a}")}, "write {{ and }} for braces"),
        ({"faq": entry(prompt="{q.x}")}, "unknown field {q.x}"),
        ({"faq": entry(reads="labels", prompt="{revew}", completion="{labels}")}, "did you mean 'review'?"),
        ({"faq": entry(label="{word}")}, "may name keyword, score"),
        ({"faq": entry(answer_after="###")}, "answer_after is not in the completion"),
        ({"faq": entry(stop=3)}, "stop must be text"),
        ({"faw": entry()}, "--task faq: not in .*; did you mean 'faw'?"),
        ({"faq": "x"}, "faq is not a mapping"),
        (["faq"], "expected entries"),
    ],
)
def test_a_mistake_in_a_templates_file_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        templates.load("faq", path)


def test_a_missing_templates_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        templates.load("faq", tmp_path / "none.yaml")


def of(name: str) -> taxonomy.Taxonomy:
    return taxonomy.Taxonomy(name="own", keywords=(taxonomy.Keyword(name=name),), scores=(-1, 1))


@pytest.mark.parametrize("name", ["맛, 향", "###입력:", "1단계 2"])
def test_a_keyword_that_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="rename the keyword"):
        templates.check_readable(templates.load("review"), of(name))


@pytest.mark.parametrize("known", [KNOWN, of("3단계"), of("food & drink")])
def test_other_keywords_are_read_back(known: taxonomy.Taxonomy) -> None:
    templates.check_readable(templates.load("review"), known)
