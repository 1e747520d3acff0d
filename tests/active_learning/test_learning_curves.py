"""learning_curves: areas, bands and verdicts equal what one computes by hand."""

import re

import numpy as np
import pytest

from ray_app.active_learning.learning_curves import Curves, Interval, markdown, plot, summary, verdict

LABELS = [100, 200, 400]
RANDOM = np.array([[0.2, 0.4, 0.6], [0.2, 0.4, 0.6], [0.2, 0.5, 0.6]])


def report(**others: np.ndarray) -> Curves:
    return summary(LABELS, {**others, "random": RANDOM})


def difference(curves: Curves, name: str) -> Interval:
    interval = curves["strategies"][name]["against_random"]
    assert interval is not None
    return interval


def test_the_area_is_the_mean_height_over_the_labels_used() -> None:
    strategies = report(flat=np.full((3, 3), 0.5))["strategies"]
    assert strategies["flat"]["area"] == 0.5
    # (100 * 0.3 + 200 * 0.5) / 300, twice, and (100 * 0.35 + 200 * 0.55) / 300
    assert strategies["random"]["area"] == pytest.approx((2 * 130 + 145) / 900, abs=1e-4)


def test_bands_are_student_intervals_of_the_mean() -> None:
    row = report()["strategies"]["random"]
    assert row["mean"] == pytest.approx([0.2, 0.4333, 0.6], abs=1e-4)
    half = 4.3027 * np.std([0.4, 0.4, 0.5], ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom at 97.5%
    assert row["high"][1] - row["mean"][1] == pytest.approx(half, abs=2e-4)
    assert row["low"][0] == row["high"][0] == 0.2


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0.02, 0.021, 0.019], r"x beats random: \+0\.02"),
        ([-0.02, -0.021, -0.019], "x does worse than random: -0.02"),
        ([0.05, -0.04, 0.01], "x does not beat random: .*the interval includes 0"),
    ],
)
def test_a_verdict_says_no_more_than_the_interval(offsets: list[float], message: str) -> None:
    curves = report(x=RANDOM + np.array(offsets)[:, None])
    assert re.match(message, verdict("x", difference(curves, "x"), curves["seeds"]))


def test_a_single_seed_proves_nothing() -> None:
    curves = summary(LABELS, {"x": RANDOM[:1] + 0.1, "random": RANDOM[:1]})
    assert "a single seed does not tell them apart" in verdict("x", difference(curves, "x"), curves["seeds"])


def test_the_report_has_a_row_and_a_sentence_per_strategy_the_best_first() -> None:
    text = markdown(report(x=RANDOM + 0.1, y=RANDOM - 0.1), "Title")
    assert text.index("| x |") < text.index("| random |") < text.index("| y |")
    assert text.count("\n- ") == 2


def test_a_name_in_the_title_stays_text() -> None:
    assert markdown(report(), "reviews of my_labels").startswith("# reviews of my\\_labels\n")


def test_the_plot_is_an_svg_that_names_every_strategy() -> None:
    picture = plot(report(x=RANDOM + 0.1), "Title")
    assert picture.startswith(b"<?xml")
    assert all(f"<!-- {name} -->".encode() in picture for name in ("x", "random"))
