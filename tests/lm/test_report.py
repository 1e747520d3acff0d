"""results and report: unit results add up to one report, and reviews get the classifiers' own measures."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.data import taxonomy
from ray_app.lm import templates
from ray_app.lm.evaluator import BERT, COMPARISONS, OVERLAPS, RESULT_COLUMNS
from ray_app.lm.report import markdown, review_report
from ray_app.lm.results import SHOWN, ResultSums, cost, gain
from ray_app.lm.templates import Parsed
from tests.evaluation.test_report import COLORS, table

TEMPLATES, SHIPPED = [templates.load(name) for name in ("review", "review_evidence")], taxonomy.load()


def result_table(rouge: list[float], first: int = 0) -> pa.Table:
    """RESULT_COLUMNS of rows whose ROUGE-L are given; ten tokens each, loss 2 per token."""
    sums = np.zeros((len(rouge), len(COMPARISONS), OVERLAPS + BERT))
    sums[:, 0, OVERLAPS - 1] = rouge
    sums[:, 3, OVERLAPS - 3 :] = 1
    values = {
        "reference": ["가"] * len(rouge),
        "generated": ["`나`\n다"] * len(rouge),
        "completion_generated": ["나"] * len(rouge),
        "loss": [20.0] * len(rouge),
        "loss_tokens": [10] * len(rouge),
        "prompt_cut": [False] * len(rouge),
        "new_tokens": [5] * len(rouge),
        "seconds": [0.5] * len(rouge),
        "cpu_seconds": [1.0] * len(rouge),
        "sums": sums.reshape(len(rouge), -1).tolist(),
    }
    columns = {
        "row": pa.array(range(first, first + len(rouge))),
        "id": pa.array([f"r{first + i}" for i in range(len(rouge))]),
    }
    return pa.table(
        {**columns, "prompt": ["###입력: 굿"] * len(rouge), **{n: pa.array(values[n], t) for n, t in RESULT_COLUMNS}}
    )


def test_results_add_up_and_keep_the_best_and_worst_twenty() -> None:
    results = ResultSums()
    kept = results.add(result_table([i / 100 for i in range(60)]))
    results.add(result_table([0.995, 0.0], first=60))
    report: Any = results.report()
    assert (report["rows"], report["loss"], report["perplexity"]) == (62, 2.0, round(float(np.exp(2)), 4))
    assert report["generation"] == {"tokens": 310, "seconds": 31.0, "tokens_per_second": 10.0, "prompts_cut": 0}
    assert report["cost"] == {"seconds_per_1000": 500.0, "cpu_seconds_per_1000": 1000.0}
    assert report["rougeL"] == round((sum(range(60)) / 100 + 0.995) / 62, 4)
    assert report["calibration"]["reference"]["bertscore"] == {"precision": 1, "recall": 1, "f1": 1}
    gains = np.array([*(i / 100 for i in range(60)), 0.995, 0.0])  # over a shuffled reference's ROUGE-L of 0
    error = gains.std(ddof=1) / 62**0.5
    assert report["over_shuffled"]["rougeL"] == {
        "mean": round(gains.mean(), 4),
        "standard_errors": round(gains.mean() / error, 1),
    }
    assert kept["rougeL"].to_pylist()[:3] == pytest.approx([0, 0.01, 0.02])
    assert "sums" not in kept.column_names
    text = markdown(report | {"model": "m", "task": "t"}, results)
    worst, best = text.partition("## Best")[::2]
    ranked = [[line.split("**")[1] for line in part.splitlines() if line.startswith("**")] for part in (worst, best)]
    assert ranked[0] == ["r0", "r61", *(f"r{i}" for i in range(1, SHOWN - 1))]
    assert ranked[1] == ["r60", *(f"r{i}" for i in range(59, 60 - SHOWN, -1))]
    assert "- generated: `'나' 다`" in best
    assert f"rougeL {gains.mean():+.4f}" in text
    assert gain(1.0, 1.0, 1) is None
    assert gain(float("nan"), 1.0, 9) is None, "BERTScore was not asked for"


def test_no_results_are_a_report_without_figures() -> None:
    report = ResultSums().report()
    assert (report["rows"], report["loss"], report["bleu"], report["bertscore"]) == (0, None, None, None)
    assert cost(0.0, 0.0, 0) == {"seconds_per_1000": None, "cpu_seconds_per_1000": None}


def test_reviews_are_judged_as_the_classifiers_are() -> None:
    """The same predictions as in tests/evaluation/test_report, by a language model; one item is bad."""
    parsed = [Parsed({"배송": 1}, ()), Parsed({"배송": 1, "색상": 1}, ("맛3",)), Parsed({"색상": -1}, ())]
    report = review_report(table(), parsed, COLORS, {"배송": 10})
    assert report["keywords"]["micro"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4}
    assert report["keywords"]["per_keyword"]["배송"]["share"] == 0.2
    assert report["tuples"]["micro"]["f1"] == 0.5
    assert report["tuples"]["micro_sign"]["f1"] == 0.5
    assert (report["scores"]["support"], report["scores"]["accuracy"]) == (3, 0.6667)
    assert report["parsed"] == {"rows": 2, "share": 0.6667, "bad_parts": 1, "nothing_said": 0}


@given(st.text() | st.text(st.sampled_from("배송핏만족도123-+, ．٣²\n"), max_size=30), st.sampled_from([0, 6_000]))
def test_whatever_a_model_writes_can_be_judged(text: str, digits: int) -> None:
    """Python refuses to read a number of thousands of digits; a model may well write one."""
    text = f"{text}배송{'9' * digits}"
    for template in TEMPLATES:
        parsed = template.parse(text, SHIPPED)
        assert set(parsed.scores) <= set(SHIPPED.names)
        assert parsed.scores or parsed.bad or not "".join(template.answer(text).split()).strip(",")


def test_a_model_that_writes_nonsense_gets_zero_and_no_error() -> None:
    report = review_report(table(), [Parsed({}, ("x",))] * 3, COLORS, {})
    assert report["tuples"]["micro"]["f1"] == report["keywords"]["micro"]["f1"] == 0
    assert report["scores"]["accuracy"] is None
    assert report["parsed"] == {"rows": 0, "share": 0.0, "bad_parts": 3, "nothing_said": 3}
