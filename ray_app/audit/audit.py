"""Labels that look wrong, and what became of them: audit, measure (an audit of planted errors), apply, compare.

In: labelled reviews. Out: `suspects.parquet`, `report.md`, `decisions.csv` to fill in, and a review queue for labelling
tools. Every review is judged by a model that did not learn from it. Test rows take no part, and no label is changed:
`apply` writes a new version from decisions that people made.
"""

import time
from dataclasses import dataclass
from typing import Any

from ray_app.errors import check, closest
from ray_app.options import Options, as_dict, option

SHEET = (
    *("review_id", "keyword", "action", "score", "who", "when"),
    *("kind", "given", "suggested", "confidence", "text", "reason"),
)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.audit`."""

    labels: str = option(
        "sample", "labeled reviews as for training; their test rows are left alone", "Data", common=True
    )
    output: str = option("runs/audit", "folder to write; must not hold an audit", "Data", common=True)
    taxonomy: str = option("default", "default, labels or a YAML file; its rules are checked too", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and say so", "Data", ("fail", "drop"))
    queue: int = option(500, "reviews to look at again, the likeliest errors first", "Data", least=1, common=True)
    formats: tuple[str, ...] = option(
        ("label-studio", "prodigy", "doccano", "csv"), "labeling tools the queue is written for", "Data", common=True
    )
    fast: bool = option(False, "judge by TF-IDF and logistic regression: a minute, without Ray", "Model", common=True)
    folds: int = option(
        5, "parts of the reviews, each judged by a model trained on the others", "Model", least=2, common=True
    )
    base_model: str = option(
        "klue/roberta-base", "encoder to train for each fold, as for jobs.train", "Model", common=True
    )
    train_config: str = option("", "YAML file of other jobs.train options for the folds' models", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))
    cpus_per_fold: float = option(
        1.0, "CPUs a fold's training reserves; as many folds at once as fit", "Cluster", above=0
    )
    seed: int = option(0, "seed of the folds", "Model")

    @property
    def model(self) -> str:
        return "TF-IDF and logistic regression" if self.fast else self.base_model


def run(config: Config) -> dict[str, int]:
    """Audits, writes, prints; returns how many suspects of each kind there are."""
    from ray_app import storage
    from ray_app.audit import report as audit_report
    from ray_app.audit.suspects import KINDS, find_suspects
    from ray_app.labels.labeling_tools import FORMATS

    began = time.monotonic()
    check(
        not storage.exists(storage.join(config.output, "suspects.parquet")),
        f"--output {config.output} holds an audit already; name another folder",
    )
    for name in config.formats:
        check(name in FORMATS, f"--formats {name}: no such format{closest(name, FORMATS)}")
    found, table, test = read_audited(config)
    audited = find_suspects(table, found.taxonomy, out_of_fold_view(config, table, found.taxonomy), test)
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


def read_audited(config: Config) -> tuple[Any, Any, Any]:
    """The labels, their rows to audit, and their test rows."""
    from ray_app.audit import confident_learning
    from ray_app.labels import reader

    confident_learning.check_installed()
    found = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in found.dropped:
        print(f"dropped: {line}")
    table = found.split("train", "validation", None)
    check(len(table), f"{config.labels}: only test rows, which an audit leaves alone")
    return found, table, found.split("test")


def _write(config: Config, table: Any, taxonomy: Any, audited: Any, report: str) -> None:
    """The queue and the sheet first: suspects.parquet makes the audit whole. What a killed one left is replaced."""
    from ray_app import storage
    from ray_app.audit.suspects import queue
    from ray_app.labels import labeling_tools, spreadsheet

    queued = storage.join(config.output, "queue")
    storage.remove(queued)
    batch = queue(table, audited.suspects, config.queue)
    if len(batch):
        labeling_tools.export(batch, queued, taxonomy, config.formats)
    sheet = spreadsheet.to_csv(SHEET, _sheet(audited.suspects.to_pylist()))
    storage.write_bytes(storage.join(config.output, "decisions.csv"), sheet)
    storage.write_bytes(storage.join(config.output, "report.md"), report.encode())
    storage.write_json(storage.join(config.output, "config.json"), as_dict(config))
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


def out_of_fold_view(config: Config, table: Any, taxonomy: Any) -> Any:
    """What models that did not learn from a review think of it, for every review."""
    from ray_app import storage
    from ray_app.audit import cross_validation

    print(f"{len(table):,} reviews in {config.folds} folds: {config.model}", flush=True)
    recipe = None if config.fast else fold_training(config, config.cpus_per_fold)
    keep = storage.join(config.output, "folds")
    return cross_validation.out_of_fold_predictions(table, taxonomy, config.folds, config.seed, recipe, keep)


def fold_training(config: Any, cpus: float) -> Any:
    """What a fold's training is told. The options' file is read here: a task elsewhere may not see it."""
    from ray_app import storage
    from ray_app.audit.cross_validation import FoldTraining
    from ray_app.cli import read_options
    from ray_app.training import train

    options: dict[str, Any] = {}
    if config.train_config:
        text = storage.read_bytes(config.train_config).decode()
        options = read_options(train.Config, text, f"--train-config {config.train_config}")
    return FoldTraining(base_model=config.base_model, options=options, device=config.device, cpus=cpus)
