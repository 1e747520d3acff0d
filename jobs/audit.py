"""Labelled reviews -> labels that look wrong: suspects.parquet, report.md, decisions.csv, a queue for labelling tools.

example: python -m jobs.audit --labels labels.parquet --output runs/audit --fast
         python -m jobs.audit apply --labels labels.parquet --decisions runs/audit/decisions.csv --output runs/labels
         python -m jobs.audit compare --before labels.parquet --after runs/labels/labels.parquet
cluster: ray job submit --working-dir . -- python -m jobs.audit --labels s3://shop/labels --output s3://shop/audit
"""

from functools import partial

from ray_app.audit import apply, audit, compare, measure
from ray_app.cli import main, parse
from ray_app.training import train


def learn(arguments: list[str]) -> None:
    """Trains a bundle as jobs.train would with these arguments."""
    train.run(parse(train.Config, arguments, "python -m jobs.train", ""))


if __name__ == "__main__":
    main(
        audit.Config,
        partial(audit.run, learn=learn),
        __doc__,
        measure=(
            measure.MeasureConfig,
            partial(measure.measure, learn=learn),
            "Plants errors in labels -> how many of them an audit finds, per keyword.\n\n"
            "example: python -m jobs.audit measure --labels labels.parquet --fast",
        ),
        apply=(
            apply.ApplyConfig,
            apply.apply,
            "Decisions (keep, fix, drop) -> a new version of the labels, with history.\n\n"
            "example: python -m jobs.audit apply --labels labels.parquet --output runs/labels",
        ),
        compare=(
            compare.CompareConfig,
            partial(compare.compare, learn=learn),
            "Two versions of labels -> the same model trained on both, on the same test reviews.\n\n"
            "example: python -m jobs.audit compare --before labels.parquet --after runs/labels/labels.parquet",
        ),
    )
