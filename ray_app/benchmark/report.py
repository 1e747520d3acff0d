"""What the benchmark reports. In: rows of figures. Out: a Markdown table, an SVG plot."""

import io
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from ray_app.markdown import table as markdown_table

UNMASKED = ("classify", "hf-batch", "hf-sorted")  # variants that find keywords alone: their work is less


class Figures(TypedDict):
    """A row: what was measured, and its figures. What is not measured is left out, or None."""

    variant: NotRequired[str]
    words: NotRequired[int]  # per review; this and the next two are what a sweep varies
    rows: NotRequired[int]
    workers: NotRequired[int]
    reviews_per_s: float
    tokens_per_s: float
    gemm_ratio: float  # FLOP/s over those of the GEMM probe
    peak_rss_mb: int
    max_abs_diff: NotRequired[float | None]  # of probabilities, from the oracle's
    same_highlight: NotRequired[float | None]  # share of found keywords with the oracle's highlight
    start_up_s: NotRequired[float]
    whole_run_reviews_per_s: NotRequired[float]
    reviews_per_dollar: NotRequired[int]


class Report(TypedDict):
    """benchmark.json."""

    machine: str
    gemm_gflops: float
    bundle: str
    rows: list[Figures]
    config: dict[str, object]
    sweeps: dict[str, list[Figures]]


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a Markdown table with every column that any row has."""
    if not rows:
        return "nothing was measured"
    names = list(dict.fromkeys(name for row in rows for name in row))
    return "\n".join(markdown_table(names, [[_cell(row.get(name)) for name in names] for row in rows]))


def _cell(value: object) -> str:
    """Three digits of a small float; other numbers as they are, since their precision is that of the report."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 10 else str(value)


def plot(rows: Sequence[Figures]) -> bytes:
    """Reviews per second of each variant, as SVG. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([row["variant"] for row in rows], [row["reviews_per_s"] for row in rows])
    axes.bar_label(bars, [f"{row['reviews_per_s']:g}/s, {row['gemm_ratio']:.0%} of GEMM" for row in rows], padding=3)
    axes.set_xlabel("reviews per second")
    axes.margins(x=0.35)
    axes.invert_yaxis()
    sink = io.BytesIO()
    figure.savefig(sink, format="svg")
    return sink.getvalue()
