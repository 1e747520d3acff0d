"""A bundle and labeled reviews -> how good it is, beside a TF-IDF baseline: printed, report.md, report.json.

example: python -m jobs.evaluate --bundle runs/bundle --labels labels.parquet --output runs/evaluation
cluster: ray job submit --working-dir . -- python -m jobs.evaluate --bundle s3://shop/bundle --labels s3://shop/labels
"""

from ray_app.cli import main
from ray_app.evaluation import compare
from ray_app.evaluation.evaluate import Config, run
from ray_app.evaluation.pairs import PairsConfig, evaluate_pairs

PAIRS = """Sentence pairs that negate one another -> in how many of them both signs are right.

example: python -m jobs.evaluate pairs --pairs pairs.parquet --bundle runs/bundle
"""
COMPARE = """Two bundles -> whether the second may replace the first; with --promote a pointer moves to it.

example: python -m jobs.evaluate compare --bundle runs/old --bundle runs/new --labels labels.parquet
cluster: ray job submit --working-dir . -- python -m jobs.evaluate compare --bundle s3://shop/models/current \\
             --bundle s3://shop/bundle --labels s3://shop/labels --promote s3://shop/models/current
"""

if __name__ == "__main__":
    main(
        Config,
        run,
        __doc__,
        pairs=(PairsConfig, evaluate_pairs, PAIRS),
        compare=(compare.CompareConfig, compare.run, COMPARE),
    )
