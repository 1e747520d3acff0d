"""Labelers' answers join the labels as a new version, checked against the batch that they were asked about.

In: a file or folder of answers from any labeling tool, and the labels. Out: the next version of the labels, its
history, and how far labelers agree.
"""

import logging
from dataclasses import dataclass
from typing import Any

from ray_app.cli import next_command
from ray_app.options import REQUIRED, Options, option

log = logging.getLogger(__name__)

COUNTS = ("new", "changed", "confirmed", "outdated", "disputed")  # reviews by what answers did to them


@dataclass(frozen=True, kw_only=True)
class MergeConfig(Options):
    """Options of `jobs.acquire merge`."""

    answers: str = option(REQUIRED, "labelers' answers: a file or folder that a labeling tool exported", "Data")
    labels: str = option("", "the labels they join; default: none yet", "Data", formerly=("labelled",))
    output: str = option("runs/labels", "folder for the new version; must be empty", "Data")
    batch: str = option("", "folder of the batch they were asked about, to check the answers against", "Data")
    bundle: str = option("", "bundle whose keywords they labeled with", "Data")
    taxonomy: str = option("", "those keywords as a YAML file; default: the bundle's, else the shipped ones", "Data")
    round: str = option("", "name of the labeling round; default: that of the output folder", "Data")
    resolve: str = option(
        "", "where labelers disagree; default: left to be decided", "Data", ("", "newest", "majority")
    )
    on_bad_label: str = option("fail", "stop at a malformed row, or drop it and report it", "Data", ("fail", "drop"))


def merge(config: MergeConfig) -> dict[str, Any]:
    """Writes the next version; prints what happened and how far labelers agree. Returns the counts."""
    from ray_app import storage
    from ray_app.active_learning.acquire import label_taxonomy
    from ray_app.inference.bundle import read_summary
    from ray_app.labels import agreement
    from ray_app.labels import merge as labels_merge

    taxonomy = label_taxonomy(config.taxonomy, read_summary(config.bundle) if config.bundle else None)
    batch = storage.read_parquet(storage.join(config.batch, "batch.parquet")) if config.batch else None
    name = config.round or config.output.rstrip("/").rsplit("/", 1)[-1]
    report = labels_merge.run(
        config.labels, config.answers, config.output, taxonomy, name, config.resolve, config.on_bad_label, batch
    )
    for line in report["dropped"]:
        log.info("dropped: %s", line)
    counts = ", ".join(f"{report[key]:,} {key}" for key in COUNTS)
    skipped = "".join(f", {count:,} tasks {reason}" for reason, count in report["skipped"].items())
    print(agreement.markdown(report["agreement"]))
    print(f"{report['answers']:,} answers: {counts}{skipped}; {report['labels']}")
    train_taxonomy = config.taxonomy or ("default" if taxonomy == label_taxonomy("", None) else "labels")
    print(f"Next: {next_command('train', labels=report['labels'], taxonomy=train_taxonomy)}")
    return report
