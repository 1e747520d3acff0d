"""Labeled reviews -> a bundle that finds keywords and scores them.

example: python -m jobs.train --labels labels.parquet --output runs/bundle --base-model klue/roberta-base
cluster: ray job submit --working-dir . -- python -m jobs.train \\
             --labels s3://shop/labels --output s3://shop/bundle --workers 4
"""

from ray_app.cli import main
from ray_app.training.train import Config, run
from ray_app.training.unlabeled.first_guess import GuessConfig, run_guess

GUESS = """A taxonomy and unlabeled reviews -> a bundle that guesses: what jobs.analyze --taxonomy makes for itself.

example: python -m jobs.train guess --taxonomy mine.yaml --input reviews.parquet --output runs/guess
"""

if __name__ == "__main__":
    main(Config, run, __doc__, guess=(GuessConfig, run_guess, GUESS))
