"""HTML pieces of the page. In: plain values, reviews among them, which nobody vouches for. Out: HTML with every one
of them escaped, for `st.html`; the classes are those of style.css. Without Streamlit, so that tests read it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ray_app.ui.translations import Translate

Finding = Mapping[str, Any]
TONES = {"negative": "n2", "neutral": "0", "positive": "p2"}
WEAK = 0.05  # a drop so small says that no single word carries the keyword: the word is underlined only
FOCUSED = 64  # findings of one review that pointing at a chip can single out


def plain(text: str) -> str:
    """Text for a Streamlit label or message, which would read Markdown, images included, into it."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def tone(score: int) -> str:
    """The colour class of a score: n2, n1, 0, p1, p2; a wider scale shares the outer two."""
    return "0" if score == 0 else f"{'n' if score < 0 else 'p'}{min(abs(score), 2)}"


def signed(score: int) -> str:
    return f"−{-score}" if score < 0 else f"+{score}" if score else "0"


def gained(value: float) -> str:
    """A signed number with two digits; what rounds to nothing has no sign."""
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def title(name: str, line: str) -> str:
    return f'<div class="nu-title"><b>{escape(name)}</b><span>{escape(line)}</span></div>'


def heading(text: str, note: str = "") -> str:
    below = f'<p class="nu-note">{escape(note)}</p>' if note else ""
    return f'<div class="nu-h">{escape(text)}</div>{below}'


def note(text: str) -> str:
    return f'<p class="nu-note">{escape(text)}</p>'


def review(text: str | None, findings: Sequence[Finding], say: Translate) -> str:
    """Chips over the review with its highlighted words; pointing at either leaves only what belongs together."""
    body = "" if text is None else f'<p class="nu-text">{marked(text, findings)}</p>'
    return f'<div class="nu-review">{chips(findings, say)}{body}</div>'


def card(row: Mapping[str, Any], meta: Sequence[str], say: Translate) -> str:
    """One review of a catalog: where it comes from, the text where it was kept, its findings."""
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in meta)
    cut = f'<span class="nu-warn">{escape(say("cut"))}</span>' if row["truncated"] else ""
    text, findings = row.get("text"), row["findings"] or []
    body = f'<p class="nu-text">{marked(text, findings, names=False)}</p>' if text is not None else ""
    shown = chips(findings, say, words=text is None)
    return f'<div class="nu-card nu-review"><div class="nu-meta">{facts}{cut}</div>{body}{shown}</div>'


def chips(findings: Sequence[Finding], say: Translate, words: bool = False) -> str:
    """Findings as chips: keyword, signed score, probability; with `words` also the highlighted word."""
    return f'<div class="nu-chips">{"".join(_chip(i, f, say, words) for i, f in enumerate(findings))}</div>'


def _chip(i: int, finding: Finding, say: Translate, words: bool) -> str:
    score, probability = int(finding["score"]), f"{finding['probability']:.0%}"
    word = (finding["highlight"] or {}).get("word") if words else None
    name = finding["keyword"] + (f" 「{word}」" if word else "")
    told = f"{finding['keyword']} {signed(score)} {score_name(score, say)} · {probability}"
    return (
        f'<span class="nu-chip nu-s-{tone(score)} nu-k{i}" tabindex="0" title="{escape(told)}">'
        f"{escape(name)} <b>{signed(score)}</b><small>{probability}</small></span>"
    )


def score_name(score: int, say: Translate) -> str:
    return say(f"score_{max(-2, min(2, score))}")


def marked(text: str, findings: Sequence[Finding], names: bool = True) -> str:
    """The text with its highlighted words in the colour of their score; offsets are code points."""
    spans: dict[tuple[int, int], list[int]] = {}
    for i, finding in enumerate(findings):
        if place := finding["highlight"]:
            spans.setdefault((place["start"], place["end"]), []).append(i)
    parts, done = [], 0
    for (start, end), owners in sorted(spans.items()):
        if done <= start < end <= len(text):  # a span that overlaps an earlier one is left to its chip
            parts += [escape(text[done:start]), _mark(text[start:end], owners, findings, names)]
            done = end
    return "".join([*parts, escape(text[done:])])


def _mark(word: str, owners: Sequence[int], findings: Sequence[Finding], names: bool) -> str:
    """One highlighted word; where several keywords share it, the one that leans on it most gives the colour."""
    first = max(owners, key=lambda i: float(findings[i]["highlight"]["drop"]))
    keywords = " · ".join(str(findings[i]["keyword"]) for i in owners)
    told = " · ".join(f"{findings[i]['keyword']} {gained(findings[i]['highlight']['drop'])}" for i in owners)
    weak = float(findings[first]["highlight"]["drop"]) < WEAK
    color = "nu-weak" if weak else f"nu-s-{tone(int(findings[first]['score']))}"
    classes = " ".join([color, *(f"nu-k{i}" for i in owners)])
    label = f"<i>{escape(keywords)}</i>" if names else ""
    return f'<mark class="{classes}" title="{escape(told)}">{escape(word)}{label}</mark>'


def focus_rules() -> str:
    """CSS by which pointing at finding i of a review fades the others."""
    rules = []
    for i in range(FOCUSED):
        pointed = f".nu-review:has(.nu-k{i}:is(:hover, :focus))"
        rules.append(f"{pointed} :is(mark, .nu-chip):not(.nu-k{i}) {{ opacity: .22; }}")
    return "<style>" + "\n".join(rules) + "</style>"


def bars(rows: Sequence[tuple[str, float]]) -> str:
    """Words with what they contribute, as bars from a common zero: to the right it falls without the word."""
    low, high = min(0.0, *(v for _, v in rows)), max(0.0, *(v for _, v in rows))
    width = max(high - low, 1e-4)
    zero = -low / width * 100
    cells = "".join(
        f'<span class="nu-word" title="{escape(word)}">{escape(word)}</span>'
        f'<span class="nu-track">{_bar(value / width * 100, zero)}'
        f'<i class="nu-axis" style="left:{zero:.1f}%"></i></span>'
        f'<span class="nu-value">{gained(value)}</span>'
        for word, value in rows
    )
    return f'<div class="nu-bars">{cells}</div>'


def _bar(size: float, zero: float) -> str:
    left, kind = (zero, "up") if size >= 0 else (zero + size, "down")
    return f'<i class="nu-{kind}" style="left:{left:.1f}%;width:{abs(size):.1f}%"></i>'


def score_bars(findings: Sequence[Finding], scale: Sequence[int], say: Translate) -> str:
    """Per finding the probability of every score, as one stacked bar."""
    rows = []
    for finding in findings:
        values = finding["score_probabilities"] or []
        parts = [(tone(s), v, signed(s), f"{score_name(s, say)} {v:.0%}") for s, v in zip(scale, values, strict=False)]
        rows.append((str(finding["keyword"]), "", parts, ""))
    return shares(rows)


def shares(rows: Iterable[tuple[str, str, Sequence[tuple[str, float, str, str]], str]]) -> str:
    """Stacked bars. A row: name, small line under it, parts (colour class, share of the bar, label, told on
    pointing), and HTML to its right (already escaped)."""
    cells = []
    rows = list(rows)
    narrow = "" if any(right for *_, right in rows) else " nu-narrow"
    for name, small, parts, right in rows:
        below = f"<small>{escape(small)}</small>" if small else ""
        stack = "".join(
            f'<span class="nu-s-{kind}" style="width:{part:.2%}" title="{escape(told)}">'
            f"{escape(label) if part >= 0.07 else ''}</span>"
            for kind, part, label, told in parts
        )
        cells.append(f'<span class="nu-name">{escape(name)}{below}</span><span class="nu-stack">{stack}</span>')
        if not narrow:
            cells.append(f'<span class="nu-top">{right}</span>')
    return f'<div class="nu-shares{narrow}">{"".join(cells)}</div>'


def cards(found: Iterable[str]) -> str:
    return f'<div class="nu-cards">{"".join(found)}</div>'


def legend(say: Translate) -> str:
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
    """Text as it is, a number between 0 and 1 with a bar beside it, None as a dash."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="nu-scroll"><table class="nu-table"><tr>{top}</tr>{body}</table></div>'


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        bar = f'<span class="nu-track"><i class="nu-up" style="left:0;width:{value:.1%}"></i></span>'
        return f'<span class="nu-cell">{bar}{value:.3f}</span>'
    return "–" if value is None else escape(value)


def confusion(counts: Sequence[Sequence[int]], scale: Sequence[int]) -> str:
    """Counts by labelled (rows) and predicted (columns) score, darker for a larger share of its row."""
    top = "".join(f"<th>{signed(s)}</th>" for s in scale)
    body = []
    for score, row in zip(scale, counts, strict=False):
        cells = "".join(f'<td style="{_shade(n / max(1, sum(row)))}">{n:,}</td>' for n in row)
        body.append(f"<tr><th>{signed(score)}</th>{cells}</tr>")
    grid = f"<tr><th></th>{top}</tr>{''.join(body)}"
    return f'<div class="nu-scroll"><table class="nu-table nu-confusion">{grid}</table></div>'


def _shade(part: float) -> str:
    return f"background:rgba(36,82,122,{0.05 + 0.9 * part:.2f});color:{'#fff' if part > 0.55 else '#1f2933'}"
