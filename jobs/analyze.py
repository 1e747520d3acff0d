"""A catalog of reviews and a bundle -> an analysis of every review: keywords, scores, highlighted words.

example: python -m jobs.analyze --input reviews/ --bundle runs/bundle --output runs/mine --keep product_id
cluster: ray job submit --working-dir . -- python -m jobs.analyze \\
             --input s3://shop/reviews --bundle s3://shop/bundle --output s3://shop/analyses
"""

from ray_app.catalog import doctor, verify
from ray_app.catalog.analyze import Config, run
from ray_app.cli import main

VERIFY = """Checks an output: every unit committed, every row in exactly one file, no file changed since.

example: python -m jobs.analyze verify --output runs/mine
"""

DOCTOR = """Checks this machine, the cluster it would join, its token, and what a job is to read and write.

example: python -m jobs.analyze doctor --input reviews/ --bundle runs/bundle --output runs/mine
"""

if __name__ == "__main__":
    main(Config, run, __doc__, verify=(verify.Config, verify.run, VERIFY), doctor=(doctor.Config, doctor.run, DOCTOR))
