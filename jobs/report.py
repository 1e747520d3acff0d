"""Analyses of a catalog -> what customers complain about, where, since when and at what cost: a report, tables, alerts.

example: python -m jobs.report --analyses runs/analyses --output runs/report
         python -m jobs.report --analyses runs/analyses --alerts runs/alerts.jsonl --webhook SLACK_URL
cluster: ray job submit --working-dir . -- python -m jobs.report --analyses s3://shop/analyses --output s3://shop/report
"""

from ray_app.cli import main
from ray_app.insights.report import Config, run

if __name__ == "__main__":
    main(Config, run, __doc__)
