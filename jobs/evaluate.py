"""A bundle and labeled reviews -> how good it is, beside a TF-IDF baseline: printed, report.md, report.json.

example: python -m jobs.evaluate --bundle runs/bundle --labels labels.parquet --output runs/evaluation
cluster: ray job submit --working-dir . -- python -m jobs.evaluate --bundle s3://shop/bundle --labels s3://shop/labels
"""

from ray_app.cli import main
from ray_app.evaluation.evaluate import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
