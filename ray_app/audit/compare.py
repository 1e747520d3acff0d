"""The same model trained on two versions of the labels, judged on the same test reviews."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.audit.audit import Learn, _recipe
from ray_app.cli import effective, option


@dataclass(frozen=True)
class CompareConfig:
    """Options of `jobs.audit compare`."""

    before: str = option("sample", "labels before", "Data")
    after: str = option("runs/labels/labels.parquet", "labels after, with the same test rows", "Data")
    output: str = option("", "folder for compare.md and compare.json", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")
    base_model: str = option("", "train bundles of this encoder rather than TF-IDF", "Model")
    train_config: str = option("", "YAML file of other jobs.train options", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))


def compare(config: CompareConfig, learn: Learn) -> dict[str, Any]:
    """Trains on both versions, judges both on the same test rows, prints them side by side."""
    from ray_app import storage
    from ray_app.audit import before_after as contrast
    from ray_app.labels import reader as labels

    before = labels.read(config.before, config.taxonomy)
    after = labels.read_as(config.after, before.taxonomy)
    tested = contrast.same_test(before, after)
    reports = [_judged(config, each, tested, learn) for each in (before, after)]
    model = config.base_model or "TF-IDF and logistic regression"
    title = f"{config.before} -> {config.after}: {model}, {len(tested)} test reviews"
    text = contrast.markdown(reports[0], reports[1], before.taxonomy, title)
    print(text)
    report = {"before": reports[0], "after": reports[1], "config": effective(config)}
    if config.output:
        storage.write_bytes(storage.join(config.output, "compare.md"), text.encode())
        storage.write_json(storage.join(config.output, "compare.json"), report)
    return report


def _judged(config: CompareConfig, labels: Any, tested: Any, learn: Learn) -> dict[str, Any]:
    from ray_app.audit import before_after as contrast

    if not config.base_model:
        return contrast.linear_report(labels, tested)
    train = labels.split("train", "validation", None)
    with tempfile.TemporaryDirectory() as folder:
        parts = _recipe(config, learn, 1.0).bundle(train, labels.taxonomy, Path(folder))
        return contrast.bundle_report(parts, tested)
