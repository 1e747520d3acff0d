"""For maintainers: how close the engine comes to the hardware's limit, beside other ways to highlight.

example: python -m jobs.benchmark --shape roberta-base --reviews 16 --rounds 5 --output runs/benchmark
cluster: ray job submit --working-dir . -- python -m jobs.benchmark --bundle s3://shop/bundle --input s3://shop/reviews
"""

from ray_app.benchmark.benchmark import Config, run
from ray_app.cli import main

if __name__ == "__main__":
    main(Config, run, __doc__)
