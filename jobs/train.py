"""Labeled reviews -> a bundle that finds keywords and scores them.

example: python -m jobs.train --labels labels.parquet --output runs/bundle --base-model klue/roberta-base
cluster: ray job submit --working-dir . -- python -m jobs.train \\
             --labels s3://shop/labels --output s3://shop/bundle --workers 4
"""

from ray_app.cli import main
from ray_app.training.train import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
