"""What a new version of the labels is worth: the same model trained on both, judged on the same test reviews.

In: labels before and after. Out: both reports, as dicts and as Markdown.
"""

from typing import Any

import pyarrow as pa

from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.evaluation import report as judge
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels.hold_out import training_split
from ray_app.labels.matrices import keyword_support
from ray_app.labels.reader import Labels

COLUMNS = ("precision", "recall", "f1", "support", "support_train", "share")
TITLES = ("precision", "recall", "F1", "support", "train support", "share")


def same_test(before: Labels, after: Labels) -> pa.Table:
    """The test rows of both. Raises UserError where there are none, or where one differs: nothing could be compared."""
    one, other = (_by_id(labels.split("test")) for labels in (before, after))
    check(one, "--before names no test rows: give some reviews the split test")
    gone = sorted(one.keys() ^ other.keys())
    check(not gone, f"review {gone[:1]} is a test row of one table only: compare versions with the same test split")
    changed = [review_id for review_id, row in one.items() if row != other[review_id]]
    check(not changed, f"test review {changed[:1]} was changed: a test split stays as it is from version to version")
    return before.split("test")


def linear_report(labels: Labels, tested: pa.Table) -> dict[str, Any]:
    """The report of a TF-IDF model trained on all but the test rows."""
    train, validation = training_split(labels, "labels")
    model, texts = TfidfBaseline(train, validation, labels.taxonomy), tested["text"].to_pylist()
    return judge.evaluate_predictions(
        tested, model.predict(texts), model.score(texts), labels.taxonomy, keyword_support(train)
    )


def bundle_report(runtime: BundleRuntime, tested: pa.Table) -> dict[str, Any]:
    """The same of a bundle."""
    return judge.evaluate_bundle(runtime, tested, judge.predictions(runtime, tested))


def markdown(before: dict[str, Any], after: dict[str, Any], taxonomy: Taxonomy, about: str) -> str:
    """Both side by side: per keyword, then the averages."""
    header = ["keyword", *(f"{title} {when}" for title in TITLES for when in ("before", "after"))]
    lines = [f"# {about}", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for name in taxonomy.names:
        lines.append(_line(name, *(report["keywords"]["per_keyword"][name] for report in (before, after))))
    lines += ["", "| measure | before | after |", "|" + " --- |" * 3]
    for title, path in (
        ("keywords F1, micro without keywords on every review", ("keywords", "micro_varying", "f1")),
        ("keywords F1, macro", ("keywords", "macro", "f1")),
        ("score accuracy, given the keyword", ("scores", "accuracy")),
        ("score mean absolute error", ("scores", "mae")),
        ("tuples F1, exact score", ("tuples", "micro", "f1")),
    ):
        values = [judge.figure(report, path) for report in (before, after)]
        lines.append(f"| {title} | {values[0]} | {values[1]} |")
    return "\n".join(lines) + "\n"


def _line(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    cells = [report[column] for column in COLUMNS for report in (before, after)]
    return f"| {name} | " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"


def _by_id(table: pa.Table) -> dict[str, tuple[str, list[tuple[str, int]]]]:
    return {
        row["review_id"]: (row["text"], sorted((label["keyword"], label["score"]) for label in row["labels"]))
        for row in table.to_pylist()
    }
