"""guideline_rules: every shipped rule by examples, and what is reported of labels that break one."""

import numpy as np
import pytest

from ray_app.audit.guideline_rules import check_labels, required_keywords
from ray_app.data import taxonomy
from ray_app.data.taxonomy import Keyword, Rule, Taxonomy, Unless

SHIPPED = taxonomy.load()
EXAMPLES = {  # a shipped rule's first cue: the keyword it requires of a review, and reviews of which it requires none
    "실밥": (
        {
            "실밥이 여기저기 나와요": "마감처리",
            "잔실밥하나없이깔끔해요": "마감처리",
            "실밥은 없는데 구김이 가요": "마감처리",
        },
        ("실이 풀려요", "밥 먹고 입어도 편해요"),
    ),
    "바느질": (
        {"바느질이 꼼꼼해요": "마감처리", "안감 박음질도 삐뚤빼뚤하네요": "마감처리"},
        ("단추가 떨어졌어요", "바늘처럼 따가워요"),
    ),
    "쫀쫀": (
        {
            "짜임이 쫀쫀해서 오래 입겠어요": "품질",
            "십 년은 입을 만큼 짱짱해요": "품질",
            "허리밴드 쫀쫀": "신축성",
            "허리 고무줄이 짱짱하지 않아요": "신축성",
            "밴딩짱짱하고완전편함": "신축성",
            "짱짱하게 잘 늘어나요": "신축성",
            "밴드는 괜찮고요 색도 곱고 천은 무척 쫀쫀해요": "품질",
        },
        ("튼튼해요", "밴딩이 편해요"),
    ),
    "구김": (
        {
            "구김이 잘 가는 천이에요": "소재",
            "금방 구겨져서 다려야 해요": "소재",
            "배송 중에 구김이 심하게 생겼어요": "배송",
            "구겨진 채로 비닐에 넣어 보냈네요": "배송",
            "배송은 빨라서 좋았고 다만 천이 얇아 구김이 가요": "소재",
        },
        ("주름치마가 예뻐요", "배송이 빨라요"),
    ),
    "늘어나": (
        {
            "쭉쭉 늘어나요": "신축성",
            "하나도 안 늘어나서 입기 힘들어요": "신축성",
            "두 번 빨았더니 다 늘어났어요": "품질",
            "세탁 한 번에 늘어남": "품질",
        },
        ("목이 늘어났어요", "축 늘어져요", "길이가 길어요"),
    ),
}


def test_every_shipped_rule_has_examples() -> None:
    assert [rule.cues[0] for rule in SHIPPED.rules] == list(EXAMPLES)


@pytest.mark.parametrize("rule", SHIPPED.rules, ids=lambda rule: rule.cues[0])
def test_a_shipped_rule_requires_its_keyword_where_it_should_and_only_there(rule: Rule) -> None:
    positive, negative = EXAMPLES[rule.cues[0]]
    assert {text: list(required_keywords(text.split(), rule)) for text in positive} == {
        text: [k] for text, k in positive.items()
    }
    assert [required_keywords(text.split(), rule) for text in negative] == [{}] * len(negative)


def test_a_rule_may_require_two_keywords_of_one_review() -> None:
    rule = next(rule for rule in SHIPPED.rules if "구김" in rule.cues)
    text_words = ["배송", "중에", "구김이", "생겼는데", "원래", "이", "원단이", "구김이", "잘", "가네요"]
    assert required_keywords(text_words, rule) == {"배송": "구김이", "소재": "구김이"}


def test_the_first_word_that_requires_a_keyword_is_the_one_reported() -> None:
    assert required_keywords(["c1", "c2"], Rule(("c",), "x")) == {"x": "c1"}


def test_the_first_exception_that_fits_wins_and_zero_words_means_the_whole_review() -> None:
    rule = Rule(("c",), "x", (Unless(("n",), "y"), Unless(("m",), "z", 1)))
    assert required_keywords(["c", "m", "a", "a", "a", "n"], rule) == {"y": "c"}
    assert required_keywords(["c", "m"], rule) == {"z": "c"}
    assert required_keywords(["c", "a", "m"], rule) == {"x": "c"}


def test_labels_that_break_a_rule_are_reported_with_word_and_share() -> None:
    small = Taxonomy(
        name="t", keywords=(Keyword(name="전체"), Keyword(name="맛")), overall="전체", rules=(Rule(("달",), "맛"),)
    )
    texts = ["달아요", "아주 달콤해요", "짜요", "달다"]
    labeled = np.array([[True, True], [True, False], [True, False], [False, True]])
    overall, sweet = check_labels(texts, labeled, small)
    assert (overall.title, overall.share_followed, [match.review for match in overall.broken]) == (
        "every review carries 전체",
        0.75,
        [3],
    )
    assert (len(sweet.matches), round(sweet.share_followed, 3), sweet.keywords) == (3, 0.667, ("맛",))
    assert [(match.review, match.keyword, match.word) for match in sweet.broken] == [(1, "맛", "달콤해요")]


def test_no_reviews_break_nothing() -> None:
    checked = check_labels([], np.zeros((0, len(SHIPPED.names)), bool), SHIPPED)
    assert [(rule.share_followed, rule.broken) for rule in checked] == [(1.0, ())] * (1 + len(SHIPPED.rules))
