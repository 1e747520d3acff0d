"""How many planted errors an audit finds.

In: labeled reviews. Out: `measure.md` and `measure.json`. The labels themselves are left as they are.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_app.audit.audit import Config, predict_out_of_fold, read_audited
from ray_app.cli import next_command
from ray_app.options import as_dict, option

if TYPE_CHECKING:
    from ray_app.audit.detection_report import DetectionReport

HOW = ("labels", "cells")
FOLDS = "measure-folds"  # apart from those of an audit that was interrupted in the same folder


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(Config):
    """Options of `jobs.audit measure`: those of an audit, and what is planted."""

    share: float = option(
        0.04, "share of the keyword labels, and of the scores, that are made wrong", "Planting", above=0, below=0.5
    )
    how: str = option(
        "labels",
        "plant errors in the labels of each keyword, as many removed as added, or in any (review, keyword) cells",
        "Planting",
        HOW,
    )


def measure(config: MeasureConfig) -> "DetectionReport":
    """Plants errors in the labels, audits them, prints and writes how many the audit finds."""
    from ray_app import storage
    from ray_app.audit.detection_report import detection_report, markdown
    from ray_app.audit.planted_errors import plant
    from ray_app.audit.suspects import find_suspects
    from ray_app.markdown import number

    taxonomy, table, test = read_audited(config)
    planted = plant(table, taxonomy, config.share, config.seed, config.how)
    predictions = predict_out_of_fold(config, planted.table, taxonomy, FOLDS)
    report = detection_report(planted, find_suspects(planted.table, taxonomy, predictions, test), taxonomy)
    text = markdown(report, f"{config.share:.0%} of {config.how} of {config.labels}, {config.model}")
    output = storage.join(config.output, "measure.md")
    storage.write_bytes(output, text.encode())
    storage.write_json(storage.join(config.output, "measure.json"), {**report, "config": as_dict(config)})
    storage.remove(storage.join(config.output, FOLDS))
    print(text)
    print(f"{output}: top 2N recall of planted keyword errors {number(report['keywords']['recall'])}")
    model = {"fast": True} if config.fast else {"base_model": config.base_model}
    print("Next: " + next_command("audit", labels=config.labels, taxonomy=config.taxonomy, **model))
    return report
