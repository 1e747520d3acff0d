"""Charts as SVG that fit any width: positions along the x axis are percent, letters keep their size.

In: plain values, among them names out of reviews. Out: an SVG document with every value escaped, for `<img>` and to
save. Colors are those of style.css.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate, pairwise
from unicodedata import east_asian_width

INK, MUTED, LINE, SOFT = "#1f2933", "#5b6672", "#dfe4ea", "#f4f6f8"
RED, BLUE, GRAY, ORANGE = "#a8201a", "#1a5ea8", "#6b7680", "#b4541a"
FONT = "-apple-system, 'Segoe UI', 'Apple SD Gothic Neo', 'Noto Sans KR', 'Noto Sans CJK KR', sans-serif"
WIDTH = 760  # pixels where it is saved; on the page it is as wide as there is room
LONGEST = 34  # characters of a name that are shown
FEW = 30  # reviews below which a point is gray: its share may be chance
ROW, TOP = 44, 6  # heights of a row of intervals, and of the edge above the first
PLOT, LEFT = 180, 42  # height of a course, and the room for the numbers beside it
INSIDE = f'<g transform="translate({LEFT},0)"><svg width="86%" height="{PLOT + 46}" overflow="visible">'
SHOWN = 8  # dates and counts along the axis: no more fit a phone


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A row: a name, a small note beside it, the estimate with its ends, and how it is written; gray unless `sure`."""

    name: str
    note: str
    low: float
    middle: float
    high: float
    value: str
    sure: bool = True


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a course: where it lies between 0 and 1, its date, its share, and of how many; ends where known."""

    at: float
    date: str
    share: float
    count: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Course:
    """A line with its name and color."""

    name: str
    color: str
    points: Sequence[Point]


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name on one line that fits: `longest` Latin letters, or half as many of Hangul, which are twice as wide."""
    shown = " ".join(name[: 4 * longest].split())
    widths = accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in shown)
    fitting = sum(width <= longest for width in widths)
    return shown if fitting == len(shown) == len(" ".join(name.split())) else shown[: max(1, fitting - 1)] + "…"


def document(height: float, parts: Iterable[str], label: str) -> str:
    """A whole SVG file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" role="img"'
    style = f'font-family="{FONT}" font-size="13" fill="{INK}"'
    return (
        f'{head} aria-label="{escape(label)}" {style}><title>{escape(label)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def text(x: str, y: float, content: str, anchor: str = "start", more: str = "") -> str:
    """A line of text, isolated from the direction of what stands around it."""
    place = f'<text x="{x}" y="{y:.0f}" text-anchor="{anchor}" unicode-bidi="isolate" {more}>'
    return f"{place}{escape(content)}</text>"


def intervals(rows: Sequence[Interval], label: str, mark: float | None = None) -> str:
    """Estimates with their intervals, one under the other; red where they lie left of `mark`, blue to its right."""
    ends = [end for row in rows for end in (row.low, row.high)] + ([] if mark is None else [mark])
    first, last = min(ends), max(ends)
    span = max(last - first, 1e-9)

    def at(value: float) -> float:
        return 1 + 98 * (min(max(value, first), last) - first) / span

    parts = []
    for number, row in enumerate(rows):
        y = TOP + number * ROW
        parts += [_names(row, y), f'<rect x="0" y="{y + 22}" width="100%" height="12" rx="4" fill="{SOFT}"/>']
        if mark is not None:
            parts.append(
                f'<line x1="{at(mark):.2f}%" x2="{at(mark):.2f}%" y1="{y + 20}" y2="{y + 36}" stroke="{GRAY}"/>'
            )
        gray = mark is None or row.low <= mark <= row.high or not row.sure
        color = GRAY if gray else RED if row.middle < (mark or 0.0) else BLUE
        low, high, middle = at(row.low), at(row.high), at(row.middle)
        parts.append(
            f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y + 28}" y2="{y + 28}" stroke="{color}" stroke-width="4" '
            f'stroke-opacity=".45"/><circle cx="{middle:.2f}%" cy="{y + 28}" r="5" fill="{color}"/>'
        )
    return document(TOP + len(rows) * ROW, parts, label)


def _names(row: Interval, y: float) -> str:
    small = f'<tspan fill="{MUTED}" font-size="12" dx="8">{escape(row.note)}</tspan>' if row.note else ""
    name = f'<tspan unicode-bidi="isolate">{escape(shortened(row.name))}</tspan>'
    return f'<text x="0" y="{y + 15:.0f}">{name}{small}</text>' + text(
        "100%", y + 15, row.value, "end", 'font-weight="600"'
    )


def courses(lines: Sequence[Course], label: str, since: float | None = None, top: float = 0.0) -> str:
    """Shares over time with the number of reviews under every point that has room; points of few reviews are hollow.

    Args:
        since: where between 0 and 1 a mark stands.
        top: the share at the upper edge; 0 for the largest one.
    """
    shares = [max(point.share, point.high or 0.0) for line in lines for point in line.points]
    upper = min(1.0, (top or max([*shares, 0.01]) * 1.1))

    def y(share: float) -> float:
        return 8 + (PLOT - 16) * (1 - min(1.0, share / upper))

    parts = [_grid(upper, y)]
    inside = [] if since is None else [_mark(since)]
    for line in lines:
        inside += _line(line, y)
    inside += _axis(lines[0].points if lines else ())
    parts += [INSIDE, *inside, "</svg></g>"]
    return document(PLOT + 46, [*parts, _legend(lines)], label)


def _grid(upper: float, y: Callable[[float], float]) -> str:
    digits = 0 if upper > 0.05 else 1
    lines = []
    for share in (0.0, upper / 2, upper):
        at = y(share)
        lines.append(f'<line x1="{LEFT - 6}" x2="100%" y1="{at:.1f}" y2="{at:.1f}" stroke="{LINE}"/>')
        lines.append(text("0", at + 4, f"{share:.{digits}%}", more=f'fill="{MUTED}" font-size="12"'))
    return "".join(lines)


def _mark(at: float) -> str:
    x = f"{1 + 98 * at:.2f}%"
    return f'<line x1="{x}" x2="{x}" y1="0" y2="{PLOT}" stroke="{INK}" stroke-dasharray="4 3"/>'


def _line(line: Course, y: Callable[[float], float]) -> list[str]:
    parts: list[str] = []
    points = [(1 + 98 * point.at, y(point.share), point) for point in line.points]
    for (x, height, _), (further, next_height, _) in pairwise(points):
        parts.append(
            f'<line x1="{x:.2f}%" x2="{further:.2f}%" y1="{height:.1f}" y2="{next_height:.1f}" stroke="{line.color}" '
            'stroke-width="2"/>'
        )
    for x, height, point in points:
        if point.low is not None and point.high is not None:
            ends = f'y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"'
            parts.append(f'<line x1="{x:.2f}%" x2="{x:.2f}%" {ends} stroke="{line.color}" stroke-opacity=".35"/>')
        few = point.count < FEW
        fill, edge = ("#fff", GRAY) if few else (line.color, line.color)
        parts.append(
            f'<circle cx="{x:.2f}%" cy="{height:.1f}" r="4" fill="{fill}" stroke="{edge}" stroke-width="1.5"/>'
        )
    return parts


def _axis(points: Sequence[Point]) -> list[str]:
    """Dates, and under them the reviews of that point."""
    every = -(-len(points) // SHOWN) if points else 1
    small, parts = f'fill="{MUTED}" font-size="11"', []
    for point in points[::every]:
        x = f"{1 + 98 * point.at:.2f}%"
        anchor = "start" if point.at < 0.05 else "end" if point.at > 0.95 else "middle"
        parts += [
            text(x, PLOT + 14, point.date, anchor, small),
            text(x, PLOT + 28, f"n {_count(point.count)}", anchor, small),
        ]
    return parts


def _count(count: int) -> str:
    """`950`, `1.2k`, `34k`: short enough to stand beside its neighbors."""
    return f"{count}" if count < 1_000 else f"{count / 1_000:.1f}k" if count < 10_000 else f"{count / 1_000:.0f}k"


def _legend(lines: Sequence[Course]) -> str:
    if len(lines) < 2:
        return ""
    spans = "".join(
        f'<tspan fill="{line.color}" dx="{10 if number else 0}">● {escape(shortened(line.name, 16))}</tspan>'
        for number, line in enumerate(lines)
    )
    return f'<text x="{LEFT}" y="{PLOT + 43}" font-size="12" font-weight="600">{spans}</text>'


def curves(lines: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], label: str, mark: float) -> str:
    """Values between 0 and 1 over values between 0 and 1: (name, color, points) each; `mark` is a line across."""

    def y(value: float) -> float:
        return 8 + (PLOT - 16) * (1 - value)

    inside = [_mark(mark)]
    for _, color, points in lines:
        for (x, value), (further, following) in pairwise(points):
            ends = f'x1="{1 + 98 * x:.1f}%" x2="{1 + 98 * further:.1f}%" y1="{y(value):.1f}" y2="{y(following):.1f}"'
            inside.append(f'<line {ends} stroke="{color}" stroke-width="2"/>')
    small = f'fill="{MUTED}" font-size="11"'
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        inside.append(text(f"{1 + 98 * tick:.1f}%", PLOT + 14, f"{tick:g}", anchor, small))
    parts = [_grid(1.0, y), INSIDE]
    named = [Course(name=name, color=color, points=()) for name, color, _ in lines]
    return document(PLOT + 46, [*parts, *inside, "</svg></g>", _legend(named)], label)
