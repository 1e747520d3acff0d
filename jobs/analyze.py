"""A catalog of reviews and a bundle -> analyses of every review: keywords, scores, highlighted words.

example: python -m jobs.analyze --input reviews/ --bundle runs/bundle --output runs/mine --keep product_id
cluster: ray job submit --working-dir . -- python -m jobs.analyze \\
             --input s3://shop/reviews --bundle s3://shop/bundle --output s3://shop/analyses
"""

from ray_app.analyze import Config, run
from ray_app.config import main

if __name__ == "__main__":
    main(Config, run, __doc__)
