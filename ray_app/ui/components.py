"""HTML components of the page, without Streamlit.

In: plain values, among them untrusted reviews. Out: HTML for `st.html` with every value escaped; classes are those of
style.css.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ray_app.data.rows import FindingRow, HighlightRow
from ray_app.ui.translations import Translate

TONES = {"negative": "n2", "neutral": "0", "positive": "p2"}
WEAK = 0.05  # below this drop no single word carries the keyword: its word is only underlined
FOCUSED = 64  # findings per review that hovering over a chip can single out
LONG = 700  # characters of a review that scrolls within its card
LABELED = 0.07  # narrower segments have no room for a label

_Highlight = tuple[int, FindingRow, HighlightRow]  # the number of a finding, the finding, its highlight


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a stacked bar: color class, share of the bar, label, and what hovering shows."""

    color: str
    share: float
    label: str
    tooltip: str


@dataclass(frozen=True, kw_only=True)
class StackedBar:
    """A name with a small note under it, segments, and HTML to the right, which is escaped already."""

    name: str
    segments: Sequence[Segment]
    note: str = ""
    right_html: str = ""


def plain(text: str) -> str:
    """Text for a Streamlit label or message, escaped so that it is not read as Markdown (images included)."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def tone(score: int) -> str:
    """The color class of a score: n2, n1, 0, p1, p2; scores beyond ±2 share the outer two."""
    return "0" if score == 0 else f"{'n' if score < 0 else 'p'}{min(abs(score), 2)}"


def signed(score: int) -> str:
    """`+2`, `0`, `−1`, with a real minus sign."""
    return f"−{-score}" if score < 0 else f"+{score}" if score else "0"


def signed_decimal(value: float) -> str:
    """A signed number with two decimals; no sign if it rounds to zero."""
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def title(name: str, line: str) -> str:
    """The page's name and its one line."""
    return f'<div class="nu-title"><b>{escape(name)}</b><span>{escape(line)}</span></div>'


def heading(text: str, note: str = "") -> str:
    """A section's heading, with a gray line under it."""
    below = f'<p class="nu-note">{escape(note)}</p>' if note else ""
    return f'<div class="nu-h">{escape(text)}</div>{below}'


def note(text: str) -> str:
    """A gray line."""
    return f'<p class="nu-note">{escape(text)}</p>'


def review(text: str, findings: Sequence[FindingRow], say: Translate) -> str:
    """Chips over the review with its highlighted words; hovering over either fades what does not belong to it."""
    return f'<div class="nu-review">{chips(findings, say)}<p class="nu-text">{highlighted(text, findings)}</p></div>'


def card(
    text: str | None, findings: Sequence[FindingRow], facts: Sequence[str], truncated: bool, say: Translate
) -> str:
    """One review of a catalog: facts about it, its text if it was kept, its findings."""
    line = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    line += f'<span class="nu-warn">{escape(say("cut"))}</span>' if truncated else ""
    scrolls = ' tabindex="0" role="region"' if len(text or "") > LONG else ""
    body = f'<p class="nu-text"{scrolls}>{highlighted(text, findings, names=False)}</p>' if text is not None else ""
    found = chips(findings, say, words=text is None)
    return f'<div class="nu-card nu-review"><div class="nu-meta">{line}</div>{body}{found}</div>'


def chips(findings: Sequence[FindingRow], say: Translate, words: bool = False) -> str:
    """Findings as chips: keyword, signed score, probability; with `words` also the highlighted word."""
    return f'<div class="nu-chips">{"".join(_chip(i, f, say, words) for i, f in enumerate(findings))}</div>'


def _chip(i: int, finding: FindingRow, say: Translate, words: bool) -> str:
    score, probability, highlight = int(finding["score"]), f"{finding['probability']:.0%}", finding["highlight"]
    word = highlight["word"] if words and highlight else ""
    name = finding["keyword"] + (f" 「{word}」" if word else "")
    tooltip = f"{finding['keyword']} {signed(score)} {score_name(score, say)} · {probability}"
    return (
        f'<span class="nu-chip nu-s-{tone(score)} nu-k{i}" tabindex="0" title="{escape(tooltip)}">'
        f"{escape(name)} <b>{signed(score)}</b><small>{probability}</small></span>"
    )


def score_name(score: int, say: Translate) -> str:
    """A score in words; scores beyond ±2 share the outer two."""
    return say(f"score_{max(-2, min(2, score))}")


def highlighted(text: str, findings: Sequence[FindingRow], names: bool = True) -> str:
    """The text with its highlighted words in the color of their score; offsets are code points."""
    spans: dict[tuple[int, int], list[_Highlight]] = {}
    for i, finding in enumerate(findings):
        if highlight := finding["highlight"]:
            spans.setdefault((highlight["start"], highlight["end"]), []).append((i, finding, highlight))
    opinions = _opinions(findings, spans)
    spans |= opinions
    pieces, done = [], 0
    for (start, end), owners in sorted(spans.items(), key=lambda item: item[0]):
        if done <= start < end <= len(text):  # of overlapping spans only the first is marked; each has its chip
            mark = _opinion if (start, end) in opinions else _mark
            pieces += [escape(text[done:start]), mark(text[start:end], owners, names)]
            done = end
    return "".join([*pieces, escape(text[done:])])


def _opinions(
    findings: Sequence[FindingRow], taken: Mapping[tuple[int, int], list[_Highlight]]
) -> dict[tuple[int, int], list[_Highlight]]:
    """The words that say the feelings, where they are not highlights themselves."""
    spans: dict[tuple[int, int], list[_Highlight]] = {}
    for i, finding in enumerate(findings):
        opinion = finding.get("opinion")
        if opinion and opinion["drop"] >= WEAK and (opinion["start"], opinion["end"]) not in taken:
            spans.setdefault((opinion["start"], opinion["end"]), []).append((i, finding, opinion))
    return spans


def _opinion(word: str, owners: Sequence[_Highlight], names: bool) -> str:
    """A word that says how the customer feels about one or more keywords: underlined in the color of the score."""
    _, finding, _ = max(owners, key=lambda owner: owner[2]["drop"])
    classes = " ".join(["nu-opinion", f"nu-o-{tone(int(finding['score']))}", *(f"nu-k{i}" for i, _, _ in owners)])
    tooltip = " · ".join(f"{owner['keyword']} {signed(int(owner['score']))}" for _, owner, _ in owners)
    return f'<mark class="{classes}" title="{escape(tooltip)}">{escape(word)}</mark>'


def _mark(word: str, owners: Sequence[_Highlight], names: bool) -> str:
    """One highlighted word; if several keywords share it, the one with the largest drop gives the color."""
    _, finding, highlight = max(owners, key=lambda owner: owner[2]["drop"])
    color = "nu-weak" if highlight["drop"] < WEAK else f"nu-s-{tone(int(finding['score']))}"
    classes = " ".join([color, *(f"nu-k{i}" for i, _, _ in owners)])
    tooltip = " · ".join(f"{owner['keyword']} {signed_decimal(its['drop'])}" for _, owner, its in owners)
    keywords = " · ".join(owner["keyword"] for _, owner, _ in owners)
    label = f"<i>{escape(keywords)}</i>" if names else ""
    return f'<mark class="{classes}" title="{escape(tooltip)}">{escape(word)}{label}</mark>'


def focus_rules() -> str:
    """CSS that fades the other findings of a review while one of them is hovered over or focused."""
    rules = []
    for i in range(FOCUSED):
        focused = f".nu-review:has(.nu-k{i}:is(:hover, :focus))"
        rules.append(f"{focused} :is(mark, .nu-chip):not(.nu-k{i}) {{ opacity: .22; }}")
    return "<style>" + "\n".join(rules) + "</style>"


def bars(rows: Sequence[tuple[str, float]]) -> str:
    """Words with their contributions, as bars from a common zero: to the right where masking lowers the probability."""
    low, high = min(0.0, *(v for _, v in rows)), max(0.0, *(v for _, v in rows))
    width = max(high - low, 1e-4)
    zero = -low / width * 100
    cells = "".join(
        f'<span class="nu-word" title="{escape(word)}">{escape(word)}</span>'
        f'<span class="nu-track">{_bar(value / width * 100, zero)}'
        f'<i class="nu-axis" style="left:{zero:.1f}%"></i></span>'
        f'<span class="nu-value">{signed_decimal(value)}</span>'
        for word, value in rows
    )
    return f'<div class="nu-bars">{cells}</div>'


def _bar(size: float, zero: float) -> str:
    left, kind = (zero, "up") if size >= 0 else (zero + size, "down")
    return f'<i class="nu-{kind}" style="left:{left:.1f}%;width:{abs(size):.1f}%"></i>'


def score_bars(findings: Sequence[FindingRow], scores: Sequence[int], say: Translate) -> str:
    """Per finding the probability of every score, as one stacked bar."""
    rows = []
    for finding in findings:
        probabilities = finding["score_probabilities"] or []
        segments = [
            Segment(color=tone(s), share=p, label=signed(s), tooltip=f"{score_name(s, say)} {p:.0%}")
            for s, p in zip(scores, probabilities, strict=False)
        ]
        rows.append(StackedBar(name=finding["keyword"], segments=segments))
    return stacked_bars(rows)


def stacked_bars(rows: Sequence[StackedBar]) -> str:
    """One bar per row, with a column at the right if any row has something there."""
    cells = []
    narrow = "" if any(bar.right_html for bar in rows) else " nu-narrow"
    for bar in rows:
        below = f"<small>{escape(bar.note)}</small>" if bar.note else ""
        segments = "".join(_segment(segment) for segment in bar.segments)
        cells.append(f'<span class="nu-name">{escape(bar.name)}{below}</span><span class="nu-stack">{segments}</span>')
        if not narrow:
            cells.append(f'<span class="nu-top">{bar.right_html}</span>')
    return f'<div class="nu-shares{narrow}">{"".join(cells)}</div>'


def _segment(segment: Segment) -> str:
    label = escape(segment.label) if segment.share >= LABELED else ""
    style = f'style="width:{segment.share:.2%}" title="{escape(segment.tooltip)}"'
    return f'<span class="nu-s-{segment.color}" {style}>{label}</span>'


def cards(reviews: Iterable[str]) -> str:
    """Cards in one or two columns."""
    return f'<div class="nu-cards">{"".join(reviews)}</div>'


def legend(say: Translate) -> str:
    """The colors of negative, neutral and positive."""
    keys = "".join(f'<span><i class="nu-s-{kind}"></i>{escape(say(name))}</span>' for name, kind in TONES.items())
    return f'<div class="nu-legend">{keys}</div>'


def top_words(words: Iterable[tuple[str, int]]) -> str:
    """`빨라요 123 · 늦어요 56`, escaped."""
    return " · ".join(f"<em>{escape(word)}</em> {count:,}" for word, count in words)


def figures(rows: Iterable[tuple[str, str, str]]) -> str:
    """Cards with a label, a large value and a small line."""
    rows = list(rows)
    cells = "".join(
        f'<div class="nu-figure"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(small)}</small></div>'
        for label, value, small in rows
    )
    return f'<div class="nu-figures nu-n{len(rows)}">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> str:
    """A cell is text, a number between 0 and 1 (with a bar beside it), or None (a dash)."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="nu-scroll" tabindex="0"><table class="nu-table"><tr>{top}</tr>{body}</table></div>'


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        bar = f'<span class="nu-track"><i class="nu-up" style="left:0;width:{value:.1%}"></i></span>'
        return f'<span class="nu-cell">{bar}{value:.3f}</span>'
    return "–" if value is None else f"<bdi>{escape(value)}</bdi>"


def confusion(counts: Sequence[Sequence[int]], scale: Sequence[int]) -> str:
    """Counts by labeled (rows) and predicted (columns) score; darker for a larger share of the row."""
    top = "".join(f"<th>{signed(s)}</th>" for s in scale)
    body = []
    for score, row in zip(scale, counts, strict=False):
        cells = "".join(f'<td style="{_shade(n / max(1, sum(row)))}">{n:,}</td>' for n in row)
        body.append(f"<tr><th>{signed(score)}</th>{cells}</tr>")
    grid = f"<tr><th></th>{top}</tr>{''.join(body)}"
    return f'<div class="nu-scroll"><table class="nu-table nu-confusion">{grid}</table></div>'


def _shade(share: float) -> str:
    return f"background:rgba(36,82,122,{0.05 + 0.9 * share:.2f});color:{'#fff' if share > 0.55 else '#1f2933'}"
