"""Analyses of a catalog -> the reviews worth labeling next, in the format of your labeling tool.

example: python -m jobs.acquire --analyses runs/analyses --output runs/batch --budget 300 --labels labels.parquet \\
             --stratify mall,category
cluster: ray job submit --working-dir . -- python -m jobs.acquire \\
             --analyses s3://shop/analyses --output s3://shop/batch-7 --budget 1000 --labels s3://shop/labels
"""

from ray_app.active_learning import simulate
from ray_app.active_learning.acquire import Config, run
from ray_app.active_learning.merge import MergeConfig, merge
from ray_app.cli import main

MERGE = """Answers of labelers -> a new version of the labels, with history and how far labelers agree.

example: python -m jobs.acquire merge --answers answers/ --batch runs/batch --labels labels.parquet --output runs/labels
"""

SIMULATE = """Whether choosing pays: each strategy against random choice, on labeled reviews whose labels are hidden.

example: python -m jobs.acquire simulate --labels labels.parquet --seeds 5
"""

if __name__ == "__main__":
    main(
        Config,
        run,
        __doc__,
        merge=(MergeConfig, merge, MERGE),
        simulate=(simulate.Config, simulate.run, SIMULATE),
    )
