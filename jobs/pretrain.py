"""Unlabeled reviews -> a small encoder for --base-model.

example: python -m jobs.pretrain --input 'reviews/*.parquet,sample' --teacher MODEL --epochs 20 --output runs/encoder
cluster: ray job submit --working-dir . --entrypoint-num-gpus 1 -- python -m jobs.pretrain \\
             --input s3://shop/reviews --output s3://shop/encoder
"""

from ray_app.cli import main
from ray_app.training.pretrain import Config, run
from ray_app.training.unlabeled.aspects import AspectsConfig, train_aspects

ASPECTS = """Labels of several taxonomies -> a bundle that also reads keywords that nobody labeled.

example: python -m jobs.pretrain aspects --labels sample,hotels.parquet=hotels.yaml,phones.parquet=phones.yaml
"""

if __name__ == "__main__":
    main(Config, run, __doc__, aspects=(AspectsConfig, train_aspects, ASPECTS))
