"""HTML components: whatever is in a review stays text."""

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ray_app.ui
from ray_app.data.rows import FindingRow
from ray_app.ui import components
from ray_app.ui.translations import LANGUAGES, TEXTS, translator
from tests.support.page_data import EVIL, finding

SAY = translator("en")
OURS = {"div", "span", "p", "b", "small", "mark", "i", "em", "table", "tr", "th", "td", "bdi"}


class ParsedHtml(HTMLParser):
    """HTML as a browser reads it: tags, attributes, and the text outside of labels."""

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
    findings: list[FindingRow] = [
        {
            "keyword": name,
            "probability": 0.5,
            "score": 1,
            "score_probabilities": [0.2] * 5,
            "highlight": {"word": name, "start": start, "end": start + length, "drop": 0.4},
        },
        {"keyword": name, "probability": 0.5, "score": -2, "score_probabilities": [], "highlight": None},
    ]
    segment = components.Segment(color="p1", share=0.5, label=name, tooltip=text)
    bar = components.StackedBar(name=name, note=text, segments=[segment], right_html=components.top_words([(name, 3)]))
    parsed = ParsedHtml(components.highlighted(text, findings))
    assert parsed.text in (text, text.replace("\r\n", "\n").replace("\r", "\n"))
    for html in (
        components.card(text, findings, [name], True, SAY),
        components.card(None, findings, [name], True, SAY),
        components.review(text, findings, SAY),
        components.bars([(name, 0.1), (text, -0.2)]),
        components.score_bars(findings, [-2, -1, 0, 1, 2], SAY),
        components.stacked_bars([bar]),
        components.figures([(name, text, name)]),
        components.table([name], [[text, 0.5, None]]),
        components.note(text),
        components.heading(text, name),
    ):
        parsed = ParsedHtml(html)
        assert parsed.tags <= OURS
        assert parsed.attributes <= {"class", "style", "title", "tabindex", "scope", "role", "aria-label"}


def test_a_script_in_a_review_is_shown() -> None:
    text = f"{EVIL} 좋아요 {EVIL}"
    for findings in ([finding(text, EVIL, 1, "좋아요")], [finding(text, "핏", 1, EVIL)]):
        html = components.card(text, findings, [EVIL], False, SAY)
        assert "<script" not in html
        assert "<img" not in html
        assert ParsedHtml(html).text.count(EVIL) >= 3


def test_a_shared_word_has_the_color_of_the_keyword_with_the_largest_drop() -> None:
    text = "배송 빨라요"
    findings = [finding(text, "만족도", 1, "빨라요", 0.1), finding(text, "배송", 2, "빨라요", 0.9)]
    assert '<mark class="nu-s-p2 nu-k0 nu-k1" title="만족도 +0.10 · 배송 +0.90">빨라요' in components.highlighted(
        text, findings
    )


def test_a_word_with_hardly_any_drop_is_only_underlined() -> None:
    findings = [finding("그냥 그래요", "만족도", 0, "그냥", 0.0001)]
    assert '<mark class="nu-weak nu-k0"' in components.highlighted("그냥 그래요", findings)


@pytest.mark.parametrize(
    ("score", "color", "text"),
    [(-5, "n2", "−5"), (-2, "n2", "−2"), (-1, "n1", "−1"), (0, "0", "0"), (1, "p1", "+1"), (3, "p2", "+3")],
)
def test_scores_have_a_color_and_a_sign(score: int, color: str, text: str) -> None:
    assert (components.tone(score), components.signed(score)) == (color, text)


def test_labels_escape_all_of_markdown() -> None:
    assert components.plain("![x](http://e.com) :red[a] *b* `c`\n1. d") == (
        r"\!\[x\]\(http\:\/\/e\.com\) \:red\[a\] \*b\* \`c\` 1\. d"
    )


def test_every_text_exists_in_both_languages_with_the_same_fields() -> None:
    for key, lines in TEXTS.items():
        assert len(lines) == len(LANGUAGES)
        assert all(lines), key
        fields = [{name for _, name, *_ in Formatter().parse(line) if name} for line in lines]
        assert fields[0] == fields[1], key


def test_every_text_is_used_and_every_used_text_exists() -> None:
    folder = Path(ray_app.ui.__file__).parent
    files = [path for path in folder.rglob("*.py") if path.name != "translations.py" and path.parent.name != "texts"]
    sources = [path.read_text(encoding="utf-8") for path in files]
    strings = {n.value for s in sources for n in ast.walk(ast.parse(s)) if isinstance(n, ast.Constant)}
    composed = re.compile(
        r"score_-?\d|(period|view|level|sort|drivers)_\w+|filter_(product|mall|category)"
    )  # keys that are put together
    assert {key for key in TEXTS if key not in strings and not composed.fullmatch(key)} == set()
    used = {key for source in sources for key in re.findall(r"\bsay\(\s*\"(\w+)\"", source)}
    assert used <= set(TEXTS)


def test_no_module_of_the_page_shadows_the_standard_library() -> None:
    """Streamlit puts the folder on `sys.path`, where a module `html` would be found instead of Python's."""
    modules = {path.stem for path in Path(ray_app.ui.__file__).parent.iterdir() if path.suffix in ("", ".py")}
    assert modules & sys.stdlib_module_names == set()
