"""Labels that look wrong, for people to decide on.

In: labeled reviews. Out: `suspects.parquet`, `report.md`, `decisions.csv` (or .xlsx) to fill in, and a review queue for
labeling tools. Every review is judged by a model that did not train on it. Test rows take no part, and no label changes
here: `apply` writes a new version of the labels from the decisions.
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.cli import next_command
from ray_app.errors import check
from ray_app.options import SEEDS, Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.audit.out_of_fold import OutOfFold
    from ray_app.audit.suspects import AuditResult, Suspect
    from ray_app.data.taxonomy import Taxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.audit`."""

    labels: str = option(
        "sample", "labeled reviews as for training; their test rows are left alone", "Data", common=True
    )
    output: str = option("runs/audit", "output folder; must not hold an audit", "Data", common=True)
    taxonomy: str = option("default", "default, labels or a YAML file; its rules are checked too", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and report it", "Data", ("fail", "drop"))
    queue: int = option(500, "reviews to look at again, the likeliest errors first", "Data", least=1, common=True)
    formats: tuple[str, ...] = option(
        ("label-studio", "prodigy", "doccano", "csv"),
        "labeling tools the queue is written for; with xlsx the decisions are a workbook too",
        "Data",
        common=True,
    )
    fast: bool = option(
        False, "train TF-IDF and logistic regression instead of an encoder: a minute, without Ray", "Model", common=True
    )
    folds: int = option(
        5, "folds of the reviews; each is judged by a model trained on the others", "Model", least=2, common=True
    )
    base_model: str = option(
        "klue/roberta-base", "encoder to train for each fold, as for jobs.train", "Model", common=True
    )
    train_config: str = option("", "YAML file of other jobs.train options for the folds' models", "Model")
    device: str = option("auto", "where to train", "Model", ("auto", "cpu", "cuda"))
    cpus_per_fold: float = option(
        1.0, "CPUs that the training of a fold reserves; as many folds run at once as fit", "Cluster", above=0
    )
    seed: int = option(0, "seed of the folds", "Model", least=0, below=SEEDS)

    @property
    def model(self) -> str:
        """What the reviews are judged by, in words."""
        return "TF-IDF and logistic regression" if self.fast else self.base_model

    @property
    def decisions(self) -> str:
        """The file that people fill in."""
        return "decisions.xlsx" if "xlsx" in self.formats else "decisions.csv"


def run(config: Config) -> dict[str, int]:
    """Audits, writes, prints; returns how many suspects of each kind there are."""
    from ray_app import storage
    from ray_app.audit.report import Audited, markdown
    from ray_app.audit.suspects import KINDS, find_suspects
    from ray_app.labels.labeling_tools import check_formats

    began = time.monotonic()
    check(
        not storage.exists(storage.join(config.output, "suspects.parquet")),
        f"--output {config.output} holds an audit already; name another folder",
    )
    check_formats(config.formats)
    taxonomy, table, test = read_audited(config)
    result = find_suspects(table, taxonomy, predict_out_of_fold(config, table, taxonomy), test)
    audited = Audited(
        labels=config.labels, reviews=len(table), test_reviews=len(test), model=config.model, folds=config.folds
    )
    _write(config, table, taxonomy, result, markdown(result, audited))
    kinds = result.suspects["kind"].to_pylist()
    counts = {kind: kinds.count(kind) for kind in KINDS}
    summary = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    print(f"{len(table):,} reviews audited after {time.monotonic() - began:.0f} s: {summary}")
    decisions = storage.join(config.output, config.decisions)
    print(f"read {storage.join(config.output, 'report.md')}, fill in {decisions}")
    command = next_command("audit apply", labels=config.labels, decisions=decisions, taxonomy=config.taxonomy)
    print(f"Next: {command}")
    return counts


def read_audited(config: Config) -> "tuple[Taxonomy, pa.Table, pa.Table]":
    """The labels' taxonomy, their rows to audit, and their test rows. Raises UserError without rows to audit."""
    from ray_app.labels import reader

    labels = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in labels.dropped:
        log.info("dropped: %s", line)
    table = labels.split("train", "validation", None)
    check(len(table), f"{config.labels}: only test rows, which an audit leaves alone")
    return labels.taxonomy, table, labels.split("test")


def predict_out_of_fold(config: Config, table: "pa.Table", taxonomy: "Taxonomy", folds: str = "folds") -> "OutOfFold":
    """Predictions for every row by a model that did not train on it; finished folds are kept in that folder of
    --output."""
    from ray_app import storage
    from ray_app.audit.cross_validation import out_of_fold_predictions
    from ray_app.audit.fold_training import read_fold_training

    training = None
    if not config.fast:
        training = read_fold_training(config.base_model, config.train_config, config.device, config.cpus_per_fold)
    log.info("%s reviews in %d folds: %s", f"{len(table):,}", config.folds, config.model)
    cache = storage.join(config.output, folds)
    return out_of_fold_predictions(table, taxonomy, config.folds, config.seed, training, cache)


def _write(config: Config, table: "pa.Table", taxonomy: "Taxonomy", result: "AuditResult", report: str) -> None:
    """Writes suspects.parquet last: it makes the audit complete. What an interrupted audit left is replaced."""
    from ray_app import storage
    from ray_app.audit.suspects import queue
    from ray_app.labels import labeling_tools
    from ray_app.labels.decisions import sheet

    queue_folder = storage.join(config.output, "queue")
    storage.remove(queue_folder)
    queued = queue(table, result.suspects, config.queue)
    if len(queued):
        labeling_tools.export(queued, queue_folder, taxonomy, config.formats)
    kind = config.decisions.rpartition(".")[2]
    decisions = sheet(kind, _sheet(result.suspects.to_pylist()), taxonomy)
    storage.write_bytes(storage.join(config.output, config.decisions), decisions)
    storage.write_bytes(storage.join(config.output, "report.md"), report.encode())
    storage.write_json(storage.join(config.output, "config.json"), as_dict(config))
    storage.write_parquet(storage.join(config.output, "suspects.parquet"), result.suspects)
    storage.remove(storage.join(config.output, "folds"))


def _sheet(suspects: "list[Suspect]") -> list[tuple[str, ...]]:
    """One line per label, whatever it is suspected of; the score is filled in where the model suggests one."""
    from ray_app.labels.decisions import SHEET

    lines: dict[tuple[str, str], dict[str, str]] = {}
    for suspect in suspects:
        new = {name: str(suspect.get(name) or "") for name in SHEET}
        new |= {"kind": "", "reason": "", "confidence": f"{suspect['confidence']:.2f}"}
        line = lines.setdefault((suspect["review_id"], suspect["keyword"]), new)
        line["kind"] += ("+" if line["kind"] else "") + suspect["kind"]
        line["reason"] += ("; " if line["reason"] else "") + suspect["reason"]
        if suspect["kind"] == "score" and suspect["suggested"]:
            line["score"] = suspect["suggested"].rpartition(" ")[2]
    return [tuple(line[name] for name in SHEET) for line in lines.values()]
