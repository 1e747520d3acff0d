"""A bundle -> a repository of a model hub, with a card that says what it is, how good, and what it learned from.

example: python -m jobs.publish --bundle runs/bundle --report runs/evaluation/report.json --to hf://shop/reviews
cluster: ray job submit --working-dir . -- python -m jobs.publish --bundle s3://shop/bundle --to hf://shop/reviews
"""

from ray_app.cli import main
from ray_app.evaluation.publish import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
