"""What a new version of the labels is worth: the same model trained on both versions, on the same test reviews.

In: labels before and after. Out: both reports side by side, printed, and as `compare.md` and `compare.json`.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ray_app.cli import next_command
from ray_app.errors import UserError
from ray_app.options import Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.audit.fold_training import FoldTraining
    from ray_app.evaluation.report import PredictionReport
    from ray_app.labels.reader import Labels

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """Options of `jobs.audit compare`."""

    before: str = option("sample", "labels before", "Data")
    after: str = option("runs/labels/labels.parquet", "labels after, with the same test rows", "Data")
    output: str = option("", "folder for compare.md and compare.json", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")
    base_model: str = option("", "train bundles of this encoder instead of TF-IDF", "Model")
    train_config: str = option("", "YAML file of other jobs.train options", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))


class Comparison(TypedDict):
    """The keys of compare.json."""

    before: "PredictionReport | None"  # None where its model could not be fitted
    after: "PredictionReport | None"
    left_out: int  # test reviews that are training reviews too
    config: dict[str, Any]


def compare(config: CompareConfig) -> Comparison:
    """Trains on both versions, evaluates both on the same test rows, prints them side by side."""
    from ray_app import storage
    from ray_app.audit.before_after import markdown, shared_test_rows, without_training_texts
    from ray_app.audit.fold_training import read_fold_training
    from ray_app.labels import reader
    from ray_app.markdown import escape, look_up, number

    training = None
    if config.base_model:
        training = read_fold_training(config.base_model, config.train_config, config.device)
    before = reader.read_labels(config.before, config.taxonomy)
    after = reader.read_labels_with(config.after, before.taxonomy)
    test, left_out = without_training_texts(before, after, shared_test_rows(before, after))
    if left_out:
        log.warning("%d test reviews left out: they are training reviews too", left_out)
    report: Comparison = {
        "before": _evaluate(training, before, test),
        "after": _evaluate(training, after, test),
        "left_out": left_out,
        "config": as_dict(config),
    }
    model = config.base_model or "TF-IDF and logistic regression"
    title = f"{escape(config.before)} -> {escape(config.after)}: {escape(model)}, {len(test)} test reviews"
    text = markdown(report["before"], report["after"], before.taxonomy, title)
    print(text)
    if config.output:
        storage.write_bytes(storage.join(config.output, "compare.md"), text.encode())
        storage.write_json(storage.join(config.output, "compare.json"), report)
        print(f"compare.md and compare.json in {config.output}")
    old, new = (number(look_up(report, (when, "keywords", "macro", "f1"))) for when in ("before", "after"))
    print(f"keywords F1, macro: {old} before, {new} after")
    print("Next: " + next_command("train", labels=config.after, taxonomy=config.taxonomy))
    return report


def _evaluate(training: "FoldTraining | None", labels: "Labels", test: "pa.Table") -> "PredictionReport | None":
    """The report of a model trained on all rows of `labels` but the test rows; without `training`, of TF-IDF, or None
    where that cannot be fitted."""
    from ray_app.audit.before_after import baseline_report, bundle_report

    if training is None:
        try:
            return baseline_report(labels, test)
        except UserError as error:
            log.warning("no report: %s", error)
            return None
    rows = labels.split("train", "validation", None)
    with tempfile.TemporaryDirectory() as folder:
        return bundle_report(training.bundle(rows, labels.taxonomy, Path(folder)), test)
