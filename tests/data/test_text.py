"""text: words lie where the user's own text has them."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray_app.data.text import SPLITTERS, is_blank, splitter

KOREAN = st.text(alphabet="배송빠르고옷도이쁘네요굿은ㅠㅋ 가.,!1xl\t\n😀👍🏽\u3000\u200b가́", max_size=40)
REVIEWS = st.lists(KOREAN | st.text(max_size=20), max_size=4)


def cut(name: str, text: str) -> list[str]:
    return [text[start:end] for start, end in splitter(name)([text])[0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("옷은 예쁘지만  배송은\t늦어요\n", ["옷은", "예쁘지만", "배송은", "늦어요"]),
        (" 😀👍🏽 굿", ["😀👍🏽", "굿"]),
        ("전각\u3000공백\u00a0사이", ["전각", "공백", "사이"]),
        ("배송빠르고옷도이쁘네요굿", ["배송빠르고옷도이쁘네요굿"]),
        ("   ", []),
        ("", []),
    ],
)
def test_space_words_are_what_white_space_separates(text: str, words: list[str]) -> None:
    assert cut("space", text) == words


@pytest.mark.parametrize(
    "text",
    [
        "배송빠르고옷도이쁘네요굿",
        "  배송빠르고옷도이쁘네요굿",
        "배송빠르고 옷도이쁘네요굿",
        "배송\n빠르고옷도이쁘네요굿",
    ],
)
def test_kiwi_finds_the_words_of_a_review_without_spaces(text: str) -> None:
    assert cut("kiwi", text) == ["배송", "빠르고", "옷도", "이쁘네요", "굿"]


def test_kiwi_offsets_are_into_the_text_as_given() -> None:
    assert splitter("kiwi")(["굿", "  배송빠르고"]) == [[(0, 1)], [(2, 4), (4, 7)]]


def spans_hold(name: str, texts: Sequence[str]) -> None:
    found = splitter(name)(texts)
    assert len(found) == len(texts)
    for text, spans in zip(texts, found, strict=True):
        ends = [0, *(end for _, end in spans)]
        assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
        covered = {i for start, end in spans for i in range(start, end)}
        assert covered == {i for i, character in enumerate(text) if not character.isspace()}


@given(REVIEWS)
@example(["\x1c\x85\u2028굿", "e\u0301", "a\x00b"])
def test_space_words_cover_all_but_white_space_once_and_in_order(texts: list[str]) -> None:
    spans_hold("space", texts)


@settings(max_examples=150, deadline=None)
@given(REVIEWS)
@example(["배송빠르고옷도이쁘네요굿"])
@example(["", " ", "\x00배송빨라요", "배송\u2028빨라요굿", "가나"])
def test_kiwi_words_cover_all_but_white_space_once_and_in_order(texts: list[str]) -> None:
    spans_hold("kiwi", texts)


def test_every_splitter_has_a_function() -> None:
    assert [splitter(name)([]) for name in SPLITTERS] == [[], []]


@pytest.mark.parametrize("text", ["", " \t\n", "\u200b\ufeff", "\u3000\u00a0", "\x00\x1f", "\ue000", "\u00ad\u2060"])
def test_text_without_anything_to_read_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["굿", "\u200b.", "😀", "ㅠ", " 1 ", "!"])
def test_text_with_one_visible_sign_is_not_blank(text: str) -> None:
    assert not is_blank(text)
