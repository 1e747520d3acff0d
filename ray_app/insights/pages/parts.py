"""Pieces of the report's page: text in both languages, numbers, bars, intervals, small charts, quotes.

In: plain values, among them strangers' texts. Out: HTML with every value escaped; classes are those of report.css.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape

from ray_app.insights.store import Row

LONGEST_NAME = 60  # characters of a name that are shown
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905


def both(ko: str, en: str) -> str:
    """A text in both languages, of which the page shows one; HTML already."""
    return f'<span class="ko" lang="ko">{ko}</span><span class="en" lang="en">{en}</span>'


def text(value: object, longest: int = 10_000) -> str:
    """A stranger's text, escaped and isolated from the direction of what stands around it."""
    shown = " ".join(str(value).split())
    cut = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return f'<bdi dir="auto">{escape(cut)}</bdi>'


def name(value: object) -> str:
    """The name of a keyword, product or mall, shortened."""
    return text(value, LONGEST_NAME)


def percent(value: float, digits: int = 1) -> str:
    """`12.3%`; none and all without digits, more digits below 0.1%."""
    if value in (0, 1):
        return f"{value:.0%}"
    if 0 < value < 0.001:
        digits = 2
    return f"{value:.{digits}%}"


def signed(value: float, digits: int = 2) -> str:
    """`+0.12`, `−0.12`, with a real minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def day_ko(value: date | str) -> str:
    """`2026년 3월 3일`."""
    day = date.fromisoformat(str(value))
    return f"{day.year}년 {day.month}월 {day.day}일"


def day_en(value: date | str) -> str:
    """`3 March 2026`."""
    day = date.fromisoformat(str(value))
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def section(number: str, ko: str, en: str, claim: str, body: str) -> str:
    """A section: what it is about, and as its heading what it says."""
    about = f'<p class="kicker">{both(ko, en)}</p>'
    return (
        f'<section id="{number}" aria-labelledby="h-{number}">{about}<h2 id="h-{number}">{claim}</h2>{body}</section>'
    )


def note(html: str) -> str:
    """A gray line."""
    return f'<p class="note">{html}</p>'


def more(summary: str, body: str, opened: bool = False) -> str:
    """Something that opens when it is asked for."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{body}</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table of HTML cells; the first of a row is its heading. It scrolls within itself on a phone."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def interval(low: float, middle: float, high: float, span: tuple[float, float], kind: str, mark: float | None) -> str:
    """A dot with its interval on a track from span[0] to span[1]; `mark` is a line across it, such as zero."""

    def at(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - span[0]) / max(1e-9, span[1] - span[0])))

    line = f'<i class="mark" style="left:{at(mark):.2f}%"></i>' if mark is not None else ""
    left, right = at(low), at(high)
    return (
        f'<span class="track {kind}" aria-hidden="true">{line}<i class="range" style="left:{left:.2f}%;'
        f'width:{max(0.4, right - left):.2f}%"></i><i class="dot" style="left:{at(middle):.2f}%"></i></span>'
    )


def diverging(minus: Sequence[float], plus: Sequence[float], scale: float) -> str:
    """A bar to both sides of zero: the parts of `minus` from the outermost in, those of `plus` from zero out."""

    def part(kind: str, value: float) -> str:
        return f'<i class="{kind}" style="width:{100 * value / max(1e-9, scale):.2f}%"></i>' if value > 0 else ""

    left = "".join(part(kind, value) for kind, value in zip(("n2", "n1"), minus, strict=True))
    right = "".join(part(kind, value) for kind, value in zip(("p1", "p2"), plus, strict=True))
    return f'<span class="diverging" aria-hidden="true"><span>{left}</span><span>{right}</span></span>'


def course(rows: Sequence[Row], label: str, top: float, since: str = "", least: int = 30) -> str:
    """Complaint shares over time as a small chart: a line with its band, gray dots of fewer than `least` reviews, a
    mark at `since`. `top` is the share at the upper edge."""
    width, height, pad = 320.0, 96.0, 5.0
    days = [date.fromisoformat(str(row["since"])).toordinal() for row in rows]
    first, last = days[0], max(days[-1], days[0] + 1)

    def x(day: int) -> float:
        return pad + (width - 2 * pad) * (day - first) / (last - first)

    def y(share: float) -> float:
        return height - pad - (height - 2 * pad) * min(1.0, share / max(top, 1e-9))

    upper = [f"{x(day):.1f},{y(row['complaints_high']):.1f}" for day, row in zip(days, rows, strict=True)]
    lower = [f"{x(day):.1f},{y(row['complaints_low']):.1f}" for day, row in zip(days, rows, strict=True)]
    line = " ".join(f"{x(day):.1f},{y(row['complaints']):.1f}" for day, row in zip(days, rows, strict=True))
    dots = "".join(
        f'<circle class="{"few" if row["reviews"] < least else "dot"}" cx="{x(day):.1f}" '
        f'cy="{y(row["complaints"]):.1f}" r="2.6">'
        f"<title>{row['since']}: {percent(row['complaints'])}, n = {row['reviews']:,}</title></circle>"
        for day, row in zip(days, rows, strict=True)
    )
    mark = ""
    if since:
        at = min(max(x(date.fromisoformat(since).toordinal()), pad), width - pad)
        mark = f'<line class="since" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height:.0f}"/>'
    base = f'<line class="base" x1="0" x2="{width:.0f}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
    band = f'<polygon class="band" points="{" ".join([*upper, *reversed(lower)])}"/>'
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}"'
    return f'<svg class="course" {box}>{base}{band}<polyline points="{line}"/>{mark}{dots}</svg>'


def quote(row: Row) -> str:
    """A review with the word that names the keyword and the word that says the feeling marked."""
    said = str(row["text"])
    kind = {"negative": "neg", "positive": "pos"}.get(str(row["sign"]), "neu")
    spans: list[tuple[int, int, str]] = []
    for role in ("highlight", "opinion"):
        start, end = row[f"{role}_start"], row[f"{role}_end"]
        if start is not None and 0 <= start < end <= len(said) and all(end <= s or start >= e for s, e, _ in spans):
            spans.append((start, end, role))
    pieces, done = [], 0
    for start, end, role in sorted(spans):
        pieces += [escape(said[done:start]), f'<mark class="{role} {kind}">{escape(said[start:end])}</mark>']
        done = end
    body = "".join([*pieces, escape(said[done:])])
    facts = [name(row["product"])] if row["product"] else []
    facts += [str(row["day"])] if row["day"] else []
    facts += [f"★ {row['rating']:g}"] if row["rating"] is not None else []
    return f'<blockquote><p><bdi dir="auto">{body}</bdi></p><footer>{" · ".join(facts)}</footer></blockquote>'


def quotes(rows: Iterable[Row]) -> str:
    """Quotes side by side where there is room; nothing for none."""
    shown = "".join(map(quote, rows))
    return f'<div class="quotes">{shown}</div>' if shown else ""
