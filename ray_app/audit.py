"""Labels that look wrong, and what became of them: audit, measure (an audit of planted errors), apply, compare.

In: labelled reviews. Out: `suspects.parquet`, `report.md`, `decisions.csv` to fill in, and a review queue for labelling
tools. Every review is judged by a model that did not learn from it. Test rows take no part, and no label is changed:
`apply` writes a new version from decisions that people made.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_app.config import check, closest, effective, option

Learn = Callable[[list[str]], object]  # arguments of jobs.train -> a bundle where --output says
SHEET = (
    *("review_id", "keyword", "action", "score", "who", "when"),
    *("kind", "given", "suggested", "confidence", "text", "reason"),
)


@dataclass(frozen=True)
class Config:
    """Options of `jobs.audit`."""

    labels: str = option("sample", "labelled reviews as for training; their test rows are left alone", "Data")
    output: str = option("runs/audit", "folder to write; must not hold an audit", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file; its rules are checked too", "Data")
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and say so", "Data", ("fail", "drop"))
    queue: int = option(500, "reviews to look at again, the likeliest errors first", "Data")
    formats: str = option("label-studio,prodigy,doccano,csv", "labelling tools the queue is written for", "Data")
    fast: bool = option(False, "judge by TF-IDF and logistic regression: a minute, without Ray", "Model")
    folds: int = option(5, "parts of the reviews, each judged by a model trained on the others", "Model")
    base_model: str = option("klue/roberta-base", "encoder to train for each fold, as for jobs.train", "Model")
    train_config: str = option("", "YAML file of other jobs.train options for the folds' models", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))
    cpus_per_fold: float = option(1.0, "CPUs a fold's training reserves; as many folds at once as fit", "Cluster")
    seed: int = option(0, "seed of the folds", "Model")

    def __post_init__(self) -> None:
        check(self.folds >= 2, f"--folds {self.folds}: at least 2")
        check(self.queue >= 1, f"--queue {self.queue}: at least 1")
        check(self.cpus_per_fold > 0, f"--cpus-per-fold {self.cpus_per_fold}: above 0")

    @property
    def tools(self) -> list[str]:
        return [name.strip() for name in self.formats.split(",") if name.strip()]

    @property
    def model(self) -> str:
        return "TF-IDF and logistic regression" if self.fast else self.base_model


@dataclass(frozen=True)
class MeasureConfig(Config):
    """Options of `jobs.audit measure`: those of an audit, and what is planted."""

    share: float = option(0.04, "of the keyword labels, and of the scores, that are made wrong", "Planting")
    how: str = option(
        "labels",
        "wrong are labels of each keyword, as many lost as added, or any cells",
        "Planting",
        ("labels", "cells"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.share < 0.5, f"--share {self.share}: write a share between 0 and 0.5")


@dataclass(frozen=True)
class ApplyConfig:
    """Options of `jobs.audit apply`."""

    labels: str = option("sample", "the labels that were audited", "Data")
    decisions: str = option("runs/audit/decisions.csv", "decisions: keep, fix or drop under action", "Data")
    output: str = option("runs/labels", "folder for the new version; must be empty", "Data")
    taxonomy: str = option("default", "default, labels or a YAML file", "Data")


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


def run(config: Config, learn: Learn) -> dict[str, int]:
    """Audits, writes, prints; returns how many suspects of each kind there are."""
    from ray_app import audit_report, storage
    from ray_app.findings import KINDS, audit
    from ray_app.labelling import FORMATS

    began = time.monotonic()
    check(
        not storage.exists(storage.join(config.output, "suspects.parquet")),
        f"--output {config.output} holds an audit already; name another folder",
    )
    for name in config.tools:
        check(name in FORMATS, f"--formats {name}: no such format{closest(name, FORMATS)}")
    found, table, test = _read(config)
    audited = audit(table, found.taxonomy, _view(config, table, found.taxonomy, learn), test)
    about = {
        "labels": config.labels,
        "reviews": len(table),
        "test": len(test),
        "model": config.model,
        "folds": config.folds,
    }
    _write(config, table, found.taxonomy, audited, audit_report.markdown(audited, about))
    kinds = audited.suspects["kind"].to_pylist()
    counts = {kind: kinds.count(kind) for kind in KINDS}
    print(
        f"{len(table):,} reviews audited after {time.monotonic() - began:.0f} s: "
        + ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        + f"\nlook at {config.output}/report.md, fill in {config.output}/decisions.csv, then "
        + f"python -m jobs.audit apply --labels {config.labels} --decisions {config.output}/decisions.csv"
    )
    return counts


def measure(config: MeasureConfig, learn: Learn) -> dict[str, Any]:
    """Plants errors in labels, audits them, and says how many it finds; writes measure.md and measure.json."""
    from ray_app import measuring, storage
    from ray_app.findings import audit
    from ray_app.planting import plant

    found, table, test = _read(config)
    planted = plant(table, found.taxonomy, config.share, config.seed, config.how)
    view = _view(config, planted.table, found.taxonomy, learn)
    audited = audit(planted.table, found.taxonomy, view, test)
    report = measuring.report(planted, audited, found.taxonomy)
    text = measuring.markdown(report, f"{config.share:.0%} of {config.how} of {config.labels}, {config.model}")
    print(text)
    storage.write_bytes(storage.join(config.output, "measure.md"), text.encode())
    storage.write_json(storage.join(config.output, "measure.json"), report | {"config": effective(config)})
    storage.remove(storage.join(config.output, "folds"))
    return report


def apply(config: ApplyConfig) -> dict[str, Any]:
    """Writes the labels as people decided, as a new version with its history."""
    from ray_app import decisions, labels

    known = labels.read(config.labels, config.taxonomy).taxonomy
    done = decisions.run(config.labels, config.decisions, config.output, known)
    print(", ".join(f"{name} {value}" for name, value in done.items()))
    return done


def compare(config: CompareConfig, learn: Learn) -> dict[str, Any]:
    """Trains on both versions, judges both on the same test rows, prints them side by side."""
    from ray_app import contrast, labels, storage

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


def _read(config: Config) -> tuple[Any, Any, Any]:
    """The labels, their rows to audit, and their test rows."""
    from ray_app import labels, suspects

    suspects.check_installed()
    found = labels.read(config.labels, config.taxonomy, config.on_bad_label)
    for line in found.dropped:
        print(f"dropped: {line}")
    table = found.split("train", "validation", None)
    check(len(table), f"{config.labels}: only test rows, which an audit leaves alone")
    return found, table, found.split("test")


def _write(config: Config, table: Any, taxonomy: Any, audited: Any, report: str) -> None:
    """The queue and the sheet first: suspects.parquet makes the audit whole. What a killed one left is replaced."""
    from ray_app import labelling, spreadsheet, storage
    from ray_app.findings import queue

    queued = storage.join(config.output, "queue")
    storage.remove(queued)
    batch = queue(table, audited.suspects, config.queue)
    if len(batch):
        labelling.export(batch, queued, taxonomy, config.tools)
    sheet = spreadsheet.to_csv(SHEET, _sheet(audited.suspects.to_pylist()))
    storage.write_bytes(storage.join(config.output, "decisions.csv"), sheet)
    storage.write_bytes(storage.join(config.output, "report.md"), report.encode())
    storage.write_json(storage.join(config.output, "config.json"), effective(config))
    storage.write_parquet(storage.join(config.output, "suspects.parquet"), audited.suspects)
    storage.remove(storage.join(config.output, "folds"))


def _sheet(suspects: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line a label, whatever it is suspected of; the score is filled in where the model has one to suggest."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for row in suspects:
        same = merged.setdefault(
            (row["review_id"], row["keyword"]),
            row | {"kind": "", "reason": "", "confidence": f"{row['confidence']:.2f}"},
        )
        same["kind"] += ("+" if same["kind"] else "") + row["kind"]
        same["reason"] += ("; " if same["reason"] else "") + row["reason"]
        if row["kind"] == "score":
            same["score"] = row["suggested"].rpartition(" ")[2]
    return [tuple(str(row.get(name) or "") for name in SHEET) for row in merged.values()]


def _view(config: Config, table: Any, taxonomy: Any, learn: Learn) -> Any:
    """What models that did not learn from a review think of it, for every review."""
    from ray_app import crossfit, storage

    print(f"{len(table):,} reviews in {config.folds} folds: {config.model}", flush=True)
    recipe = None if config.fast else _recipe(config, learn, config.cpus_per_fold)
    keep = storage.join(config.output, "folds")
    return crossfit.view(table, taxonomy, config.folds, config.seed, recipe, keep)


def _judged(config: CompareConfig, labels: Any, tested: Any, learn: Learn) -> dict[str, Any]:
    from ray_app import contrast

    if not config.base_model:
        return contrast.linear_report(labels, tested)
    train = labels.split("train", "validation", None)
    with tempfile.TemporaryDirectory() as folder:
        parts = _recipe(config, learn, 1.0).bundle(train, labels.taxonomy, Path(folder))
        return contrast.bundle_report(parts, tested)


def _recipe(config: Config | CompareConfig, learn: Learn, cpus: float) -> Any:
    """What jobs.train is told of the model. The file is read here: a task elsewhere may not see it."""
    from ray_app import storage
    from ray_app.crossfit import Recipe

    options = storage.read_bytes(config.train_config).decode() if config.train_config else ""
    return Recipe(learn, config.base_model, options, config.device, cpus)
