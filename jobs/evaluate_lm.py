"""A causal language model and rows with references -> what it writes from the prompts, and how good that is.

example: python -m jobs.evaluate_lm --model runs/lm --labels labels.parquet --bundle runs/bundle --output runs/judged
few-shot: python -m jobs.evaluate_lm --model Qwen/Qwen3-0.6B-Base --task review --labels labels.parquet --shots 4
cluster: ray job submit --working-dir . -- python -m jobs.evaluate_lm --model s3://shop/lm --workers 8 \\
             --labels s3://shop/interviews --output s3://shop/judged
"""

from ray_app.cli import main
from ray_app.lm.evaluate_lm import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
