"""Labeled reviews, or question and answer rows -> a causal language model that analyzes reviews, or answers.

example: python -m jobs.train_lm --task review --labels labels.parquet --base-model scratch --output runs/lm
cluster: ray job submit --working-dir . -- python -m jobs.train_lm --task interview \\
             --labels s3://shop/interviews.jsonl --columns question=질문,answer=답변 \\
             --base-model s3://shop/base --output s3://shop/lm --workers 4
"""

from ray_app.cli import main
from ray_app.lm.train_lm import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
