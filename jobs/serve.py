"""A bundle -> an HTTP endpoint that analyzes reviews; with --page, a page to look at them.

example: python -m jobs.serve --bundle runs/bundle --page
cluster: ray job submit --working-dir . -- python -m jobs.serve --bundle s3://shop/bundle
"""

from ray_app.cli import main
from ray_app.serving.serve import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
