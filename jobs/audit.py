"""Labeled reviews -> labels that look wrong: suspects.parquet, report.md, decisions.csv, a review queue.

example: python -m jobs.audit --labels labels.parquet --output runs/audit --fast
         python -m jobs.audit apply --labels labels.parquet --decisions runs/audit/decisions.csv --output runs/labels
         python -m jobs.audit compare --before labels.parquet --after runs/labels/labels.parquet
cluster: ray job submit --working-dir . -- python -m jobs.audit --labels s3://shop/labels --output s3://shop/audit
"""

from ray_app.audit.apply import ApplyConfig, apply
from ray_app.audit.audit import Config, run
from ray_app.audit.compare import CompareConfig, compare
from ray_app.audit.measure import MeasureConfig, measure
from ray_app.cli import main

MEASURE = """Plants errors in labels -> how many of them an audit finds, per keyword.

example: python -m jobs.audit measure --labels labels.parquet --fast
"""

APPLY = """Decisions (keep, fix, drop) -> a new version of the labels, with history.

example: python -m jobs.audit apply --labels labels.parquet --output runs/labels
"""

COMPARE = """Two versions of labels -> the same model trained on both, on the same test reviews.

example: python -m jobs.audit compare --before labels.parquet --after runs/labels/labels.parquet
"""

if __name__ == "__main__":
    main(
        Config,
        run,
        __doc__,
        measure=(MeasureConfig, measure, MEASURE),
        apply=(ApplyConfig, apply, APPLY),
        compare=(CompareConfig, compare, COMPARE),
    )
