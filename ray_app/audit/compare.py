"""The same model trained on two versions of the labels, judged on the same test reviews."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.audit.audit import fold_training
from ray_app.options import Options, as_dict, option


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """Options of `jobs.audit compare`."""

    before: str = option("sample", "labels before", "Data")
    after: str = option("runs/labels/labels.parquet", "labels after, with the same test rows", "Data")
    output: str = option("", "folder for compare.md and compare.json", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")
    base_model: str = option("", "train bundles of this encoder rather than TF-IDF", "Model")
    train_config: str = option("", "YAML file of other jobs.train options", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))


def compare(config: CompareConfig) -> dict[str, Any]:
    """Trains on both versions, judges both on the same test rows, prints them side by side."""
    from ray_app import storage
    from ray_app.audit import before_after
    from ray_app.labels import reader

    before = reader.read_labels(config.before, config.taxonomy)
    after = reader.read_labels_with(config.after, before.taxonomy)
    tested = before_after.same_test(before, after)
    reports = [_judged(config, each, tested) for each in (before, after)]
    model = config.base_model or "TF-IDF and logistic regression"
    title = f"{config.before} -> {config.after}: {model}, {len(tested)} test reviews"
    text = before_after.markdown(reports[0], reports[1], before.taxonomy, title)
    print(text)
    report = {"before": reports[0], "after": reports[1], "config": as_dict(config)}
    if config.output:
        storage.write_bytes(storage.join(config.output, "compare.md"), text.encode())
        storage.write_json(storage.join(config.output, "compare.json"), report)
    return report


def _judged(config: CompareConfig, labels: Any, tested: Any) -> dict[str, Any]:
    from ray_app.audit import before_after

    if not config.base_model:
        return before_after.linear_report(labels, tested)
    train = labels.split("train", "validation", None)
    with tempfile.TemporaryDirectory() as folder:
        runtime = fold_training(config, 1.0).bundle(train, labels.taxonomy, Path(folder))
        return before_after.bundle_report(runtime, tested)
