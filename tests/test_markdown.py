"""Texts of strangers in reports: rendered, they are words, whatever they hold."""

import itertools
import re
from html import unescape

import pytest
from markdown_it import MarkdownIt

from ray_app.markdown import escape, table
from tests.support.page_data import EVIL, MARKDOWN

HOSTILE = [
    *(EVIL, MARKDOWN, "![x](http://evil.example/x.png)", "[a](javascript:alert(1))", "<img src=x onerror=y>"),
    *(
        "a | b | c",
        "a\\|b",
        "`code` ``",
        "**bold** _it_ ~~gone~~",
        "a\n\n# heading",
        "a\r\n| new | row |",
        "a\u2028b\x0bc",
    ),
    *(
        "[x]: http://evil.example",
        "[x][y]",
        "http://evil.example",
        "https://e.co/a_b",
        "www.evil.example",
        "me@evil.example",
    ),
    *("&lt;b&gt;", "&#60;b&#62;", "- item", "+ item", "1. item", "> quote", "---", "===", "    code", "<!-- c -->"),
    *("$x$", "\\", "\\\\", "a\\\nb", "<a href='x'>y</a>", "~~~", "```", "|", "", "  ", "<https://e.co>"),
]
TAGS = re.compile(r"<(?!/?(?:table|thead|tbody|tr|th|td|p|h1)\b)[^>]*>")


def rendered(markdown: str) -> str:
    html: str = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    return html


def words(text: str) -> str:
    return " ".join(re.sub(r"[\n\r\x0b\x0c\u2028]+", " ", text).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_holds_the_text_and_nothing_of_its_markup(text: str) -> None:
    html = rendered("\n".join(table(("a", "b"), [(escape(text), "end")])))
    assert not TAGS.findall(html), html
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert [words(unescape(cell)) for cell in cells] == [words(text), "end"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_heading_and_a_line_hold_it_too(text: str) -> None:
    html = rendered(f"# Audit of {escape(text)}\n\n{escape(text)}\n")
    assert not TAGS.findall(html), html
    assert html.count("<p>") <= 1
    assert "<h2" not in html


def test_two_texts_make_nothing_together() -> None:
    for first, second in itertools.product(HOSTILE, repeat=2):
        html = rendered("\n".join(table(("a", "b"), [(escape(first), escape(second))])))
        assert not TAGS.findall(html), html


def test_no_renderer_makes_a_link_of_an_address_in_it() -> None:
    raw = escape("http://e.co www.e.co a@e.co HTTPS://e.co WWW.e.co")
    assert not re.search(r"(?i)https?://|www\.|[^\\]@", raw)
