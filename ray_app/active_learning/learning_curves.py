"""Learning curves compared: bands, areas, and whether a strategy beats random selection.

In: per strategy a score for each seed and number of labels. Out: the keys of `simulation.json`, Markdown, a plot.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ray_app.errors import UserError

CONFIDENCE = 0.95
YARDSTICK = "random"
Runs = NDArray[np.float64]


def summary(labels: Sequence[int], runs: dict[str, Runs]) -> dict[str, Any]:
    """Means, bands and areas of [seeds, points] scores over the numbers of labels; each strategy beside random.

    The area is the mean height of a curve (trapezoids over the labels used), so it has the unit of the score. Bands and
    differences are 95% Student intervals of the mean over seeds; differences are within seeds, which start alike.
    """
    found: dict[str, Any] = {"labels": list(labels), "seeds": len(next(iter(runs.values()))), "strategies": {}}
    areas = {name: np.trapezoid(scores, labels) / (labels[-1] - labels[0]) for name, scores in runs.items()}
    for name, scores in runs.items():
        mean, half = _interval(scores)
        found["strategies"][name] = {
            "runs": scores.round(4).tolist(),
            "mean": mean.round(4).tolist(),
            "low": (mean - half).round(4).tolist(),
            "high": (mean + half).round(4).tolist(),
            "area": round(float(areas[name].mean()), 4),
            "against_random": _against(np.asarray(areas[name] - areas[YARDSTICK])) if name != YARDSTICK else None,
        }
    return found


def verdict(name: str, row: dict[str, Any], seeds: int) -> str:
    """One sentence on whether a strategy beats random."""
    difference = row["against_random"]
    if seeds < 2:
        return f"{name}: {difference['mean']:+.4f} area beside random; a single seed does not tell them apart."
    said = f"{difference['mean']:+.4f} area ({difference['low']:+.4f} to {difference['high']:+.4f}, {seeds} seeds)"
    if difference["low"] > 0:
        return f"{name} beats random: {said}."
    if difference["high"] < 0:
        return f"{name} does worse than random: {said}."
    return f"{name} does not beat random: {said}; the interval holds 0."


def markdown(report: dict[str, Any], title: str) -> str:
    """A table of the curves' areas and ends, and a sentence a strategy."""
    strategies, labels = report["strategies"], report["labels"]
    lines = [
        f"# {title}",
        "",
        f"Tuple F1 over labels used, mean of {report['seeds']} seeds. The area is the mean height of the curve.",
        "",
        "| strategy | area | " + " | ".join(f"{count} labels" for count in labels) + " |",
        "|" + " --- |" * (len(labels) + 2),
    ]
    for name, row in sorted(strategies.items(), key=lambda item: -item[1]["area"]):
        lines.append(f"| {name} | {row['area']:.4f} | " + " | ".join(f"{value:.3f}" for value in row["mean"]) + " |")
    lines += ["", *(f"- {verdict(n, row, report['seeds'])}" for n, row in strategies.items() if n != YARDSTICK)]
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], title: str) -> bytes:
    """The curves with their bands, as SVG. Raises UserError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'nunchi[bench]', or --no-plot") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, row in report["strategies"].items():
        style: dict[str, Any] = {"color": "black", "linestyle": "--"} if name == YARDSTICK else {}
        (line,) = axes.plot(report["labels"], row["mean"], marker="o", markersize=3, label=name, **style)
        axes.fill_between(report["labels"], row["low"], row["high"], alpha=0.12, color=line.get_color(), linewidth=0)
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


def _against(differences: Runs) -> dict[str, float]:
    mean, half = _interval(differences)
    values = {"mean": mean, "low": mean - half, "high": mean + half}
    return {name: round(float(value), 4) for name, value in values.items()}
