"""What a new version of the labels is worth: the same model trained on both versions, on the same test reviews.

In: labels before and after. Out: the evaluation report of each, and both side by side as Markdown.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import check
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.evaluation.report import PredictionReport, evaluate_bundle, evaluate_predictions, predictions
from ray_app.inference.known_texts import hashes
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels.hold_out import training_split
from ray_app.labels.matrices import keyword_support
from ray_app.labels.reader import Labels
from ray_app.markdown import escape, look_up, number, table

COLUMNS = {  # key of a keyword's figures -> title
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "support": "support",
    "support_train": "train support",
    "share": "share",
}
MEASURES = {  # title -> keys in the report
    "keywords F1, micro without keywords on every review": ("keywords", "micro_varying", "f1"),
    "keywords F1, macro": ("keywords", "macro", "f1"),
    "score accuracy, given the keyword": ("scores", "accuracy"),
    "score mean absolute error": ("scores", "mae"),
    "tuples F1, exact score": ("tuples", "micro", "f1"),
}


def shared_test_rows(before: Labels, after: Labels) -> pa.Table:
    """The test rows of both versions. Raises UserError where there are none or where one differs."""
    old, new = (_by_id(labels.split("test")) for labels in (before, after))
    check(old, "--before names no test rows: give some reviews the split test")
    unshared = sorted(old.keys() ^ new.keys())
    check(
        not unshared,
        f"review {unshared[:1]} is a test row of one table only: compare versions with the same test split",
    )
    changed = [review_id for review_id, row in old.items() if row != new[review_id]]
    check(not changed, f"test review {changed[:1]} was changed: a test split stays as it is from version to version")
    return before.split("test")


def without_training_texts(before: Labels, after: Labels, test: pa.Table) -> tuple[pa.Table, int]:
    """The test rows whose text no training row of either version has, and how many others there were. Raises UserError
    where none is left."""
    tables = [labels.split("train", "validation", None) for labels in (before, after)]
    trained = [text for table in tables for text in table["text"].to_pylist()]
    seen = np.isin(hashes(test["text"].to_pylist()), hashes(trained))
    check(not seen.all(), f"all {len(test)} test reviews are training reviews too: nothing is left to compare on")
    return test.filter(pa.array(~seen)), int(seen.sum())


def baseline_report(labels: Labels, test: pa.Table) -> PredictionReport:
    """The report of a TF-IDF model trained on all but the test rows."""
    train, validation = training_split(labels, "labels")
    model, texts = TfidfBaseline(train, validation, labels.taxonomy), test["text"].to_pylist()
    return evaluate_predictions(test, model.predict(texts), model.score(texts), labels.taxonomy, keyword_support(train))


def bundle_report(runtime: BundleRuntime, test: pa.Table) -> PredictionReport:
    """The report of a bundle."""
    return evaluate_bundle(runtime, test, predictions(runtime, test))


def markdown(before: PredictionReport | None, after: PredictionReport | None, taxonomy: Taxonomy, title: str) -> str:
    """Both side by side under a `title` of Markdown: per keyword, then the averages."""
    header = ("keyword", *(f"{column} {when}" for column in COLUMNS.values() for when in ("before", "after")))
    measures = [
        (name, *(number(look_up(report, keys)) for report in (before, after))) for name, keys in MEASURES.items()
    ]
    lines = [
        f"# {title}",
        "",
        *table(header, ([escape(name), *_keyword_cells(name, before, after)] for name in taxonomy.names)),
        "",
        *table(("measure", "before", "after"), measures),
    ]
    return "\n".join(lines) + "\n"


def _keyword_cells(name: str, before: PredictionReport | None, after: PredictionReport | None) -> Iterator[str | None]:
    """Every figure before and after, with all its decimals."""
    for key in COLUMNS:
        for report in (before, after):
            value = look_up(report, ("keywords", "per_keyword", name, key))
            yield None if value is None else str(value)


def _by_id(table: pa.Table) -> dict[str, tuple[str, list[tuple[str, int]]]]:
    """Review id -> its text and its labels, sorted."""
    return {
        row["review_id"]: (row["text"], sorted((label["keyword"], label["score"]) for label in row["labels"]))
        for row in table.to_pylist()
    }
