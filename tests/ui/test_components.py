"""HTML components: whatever is in a review stays text."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ray_app.ui
from ray_app.ui import components
from ray_app.ui.translations import LANGUAGES, TEXTS, speaker
from tests.support.page_data import EVIL, finding

SAY = speaker("en")
OURS = {"div", "span", "p", "b", "small", "mark", "i", "em", "table", "tr", "th", "td"}


class Read(HTMLParser):
    """What a browser would make of it: tags, attributes, text outside of labels."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.label = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.label += tag == "i"

    def handle_endtag(self, tag: str) -> None:
        self.label -= tag == "i"

    def handle_data(self, data: str) -> None:
        self.text += "" if self.label else data


HOSTILE = st.one_of(st.text(min_size=1, max_size=40), st.text("<>&\"'/=b 가", min_size=1, max_size=40))


@given(HOSTILE, HOSTILE, st.integers(0, 20), st.integers(1, 20))
def test_any_text_and_any_span_stay_text(text: str, name: str, start: int, length: int) -> None:
    place = {"word": name, "start": start, "end": start + length, "drop": 0.4}
    found = [
        {"keyword": name, "probability": 0.5, "score": 1, "score_probabilities": [0.2] * 5, "highlight": place},
        {"keyword": name, "probability": 0.5, "score": -2, "score_probabilities": None, "highlight": None},
    ]
    read = Read(components.marked(text, found))
    assert read.text == text.replace("\r\n", "\n").replace("\r", "\n") or read.text == text
    row = {"text": text, "findings": found, "truncated": True}
    for html in (
        components.card(row, [name], SAY),
        components.card({**row, "text": None}, [name], SAY),
        components.review(text, found, SAY),
        components.bars([(name, 0.1), (text, -0.2)]),
        components.score_bars(found, [-2, -1, 0, 1, 2], SAY),
        components.shares([(name, text, [("p1", 0.5, name, text)], components.top_words([(name, 3)]))]),
        components.figures([(name, text, name)]),
        components.table([name], [[text, 0.5, None]]),
        components.note(text),
        components.heading(text, name),
    ):
        read = Read(html)
        assert read.tags <= OURS
        assert read.attributes <= {"class", "style", "title", "tabindex"}


def test_a_script_in_a_review_is_shown() -> None:
    text = f"{EVIL} 좋아요 {EVIL}"
    for found in ([finding(text, EVIL, 1, "좋아요")], [finding(text, "핏", 1, EVIL)]):
        html = components.card({"text": text, "findings": found, "truncated": False}, [EVIL], SAY)
        assert "<script" not in html
        assert "<img" not in html
        assert Read(html).text.count(EVIL) >= 3


def test_a_shared_word_takes_the_colour_of_the_keyword_that_leans_on_it_most() -> None:
    text = "배송 빨라요"
    found = [finding(text, "만족도", 1, "빨라요", 0.1), finding(text, "배송", 2, "빨라요", 0.9)]
    assert '<mark class="nu-s-p2 nu-k0 nu-k1" title="만족도 +0.10 · 배송 +0.90">빨라요' in components.marked(
        text, found
    )


def test_a_word_that_carries_next_to_nothing_is_underlined_only() -> None:
    found = [finding("그냥 그래요", "만족도", 0, "그냥", 0.0001)]
    assert '<mark class="nu-weak nu-k0"' in components.marked("그냥 그래요", found)


@pytest.mark.parametrize(
    ("score", "colour", "text"),
    [(-5, "n2", "−5"), (-2, "n2", "−2"), (-1, "n1", "−1"), (0, "0", "0"), (1, "p1", "+1"), (3, "p2", "+3")],
)
def test_scores_have_a_colour_and_a_sign(score: int, color: str, text: str) -> None:
    assert (components.tone(score), components.signed(score)) == (color, text)


def test_labels_escape_every_mark_of_markdown() -> None:
    assert components.plain("![x](http://e.com) :red[a] *b* `c`\n1. d") == (
        r"\!\[x\]\(http\:\/\/e\.com\) \:red\[a\] \*b\* \`c\` 1\. d"
    )


def test_both_languages_say_everything_and_fill_in_the_same() -> None:
    for key, lines in TEXTS.items():
        assert len(lines) == len(LANGUAGES)
        assert all(lines), key
        fields = [{name for _, name, *_ in Formatter().parse(line) if name} for line in lines]
        assert fields[0] == fields[1], key


def test_every_line_is_used_and_every_used_line_exists() -> None:
    folder = Path(ray_app.ui.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "translations.py"]
    strings = {n.value for s in sources for n in ast.walk(ast.parse(s)) if isinstance(n, ast.Constant)}
    made = re.compile(r"score_-?\d|period_\w+|filter_(mall|category)")  # names that are put together
    assert {key for key in TEXTS if key not in strings and not made.fullmatch(key)} == set()
    asked = {key for source in sources for key in re.findall(r"\bsay\(\s*\"(\w+)\"", source)}
    assert asked <= set(TEXTS)
