"""Learning curves compared: bands, areas, and whether a strategy beats random selection.

In: per strategy, the scores of each seed by number of labels. Out: the curves of `simulation.json`, Markdown, a plot.
"""

import io
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ray_app.markdown import escape, table

CONFIDENCE = 0.95
REFERENCE = "random"  # the strategy that the others are compared with
Runs = NDArray[np.float64]  # [seeds, points] scores


class Interval(TypedDict):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float


class Curve(TypedDict):
    """One strategy: [seeds][points] runs; [points] mean, low and high; area, and how much more it is than random's."""

    runs: list[list[float]]
    mean: list[float]
    low: list[float]
    high: list[float]
    area: float
    against_random: Interval | None


class Curves(TypedDict):
    """[points] numbers of labels, the number of seeds, and strategy -> curve."""

    labels: list[int]
    seeds: int
    strategies: dict[str, Curve]


class SimulationReport(Curves):
    """The keys of simulation.json."""

    seconds: float
    test: int
    config: dict[str, Any]


def summary(labels: Sequence[int], runs: dict[str, Runs]) -> Curves:
    """Means, bands and areas of [seeds, points] scores over the numbers of labels; each strategy compared with random.

    The area is the mean height of a curve (trapezoids over the labels used), so it has the unit of the score. Bands and
    differences are 95% Student intervals of the mean over seeds; differences are within seeds, which start alike.
    """
    areas = {name: np.trapezoid(scores, labels) / (labels[-1] - labels[0]) for name, scores in runs.items()}
    strategies: dict[str, Curve] = {}
    for name, scores in runs.items():
        mean, half = _interval(scores)
        strategies[name] = {
            "runs": scores.round(4).tolist(),
            "mean": mean.round(4).tolist(),
            "low": (mean - half).round(4).tolist(),
            "high": (mean + half).round(4).tolist(),
            "area": round(float(areas[name].mean()), 4),
            "against_random": _difference(np.asarray(areas[name] - areas[REFERENCE])) if name != REFERENCE else None,
        }
    return {"labels": list(labels), "seeds": len(next(iter(runs.values()))), "strategies": strategies}


def verdict(name: str, difference: Interval, seeds: int) -> str:
    """One sentence on whether a strategy beats random, by its difference in area."""
    if seeds < 2:
        return f"{name}: {difference['mean']:+.4f} area compared with random; a single seed does not tell them apart."
    interval = f"{difference['mean']:+.4f} area ({difference['low']:+.4f} to {difference['high']:+.4f}, {seeds} seeds)"
    if difference["low"] > 0:
        return f"{name} beats random: {interval}."
    if difference["high"] < 0:
        return f"{name} does worse than random: {interval}."
    return f"{name} does not beat random: {interval}; the interval includes 0."


def markdown(curves: Curves, title: str) -> str:
    """A table of the curves' areas and means, and one sentence per strategy."""
    seeds = curves["seeds"]
    best_first = sorted(curves["strategies"].items(), key=lambda item: -item[1]["area"])
    lines = [
        f"# {escape(title)}",
        "",
        f"Tuple F1 over labels used, mean of {seeds} seeds. The area is the mean height of the curve.",
        "",
        *table(
            ("strategy", "area", *(f"{count} labels" for count in curves["labels"])),
            [(name, f"{curve['area']:.4f}", *curve["mean"]) for name, curve in best_first],
        ),
        "",
        *(
            f"- {verdict(name, curve['against_random'], seeds)}"
            for name, curve in curves["strategies"].items()
            if curve["against_random"]
        ),
    ]
    return "\n".join(lines) + "\n"


def plot(curves: Curves, title: str) -> bytes:
    """The curves with their bands, as SVG. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves["strategies"].items():
        (line,) = axes.plot(curves["labels"], curve["mean"], marker="o", markersize=3, label=name)
        if name == REFERENCE:
            line.set(color="black", linestyle="--")
        band = (curves["labels"], curve["low"], curve["high"])
        axes.fill_between(*band, alpha=0.12, color=line.get_color(), linewidth=0)
    axes.set(title=title, xlabel="labels used", ylabel="tuple F1")
    axes.grid(alpha=0.3)
    axes.legend()
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def _interval(scores: Runs) -> tuple[Runs, Runs]:
    """Mean over the first axis, and half the width of its 95% interval; 0 for a single seed."""
    seeds = len(scores)
    if seeds < 2:
        return scores.mean(0), np.zeros(scores.shape[1:])
    half = student.ppf((1 + CONFIDENCE) / 2, seeds - 1) * scores.std(0, ddof=1) / np.sqrt(seeds)
    return scores.mean(0), np.asarray(half)


def _difference(areas: Runs) -> Interval:
    """The interval of [seeds] differences in area."""
    mean, half = _interval(areas)
    low, high = mean - half, mean + half
    return {"mean": round(float(mean), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
