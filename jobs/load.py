"""For maintainers: what load an endpoint takes: throughput at saturation, latency below it, behavior above it.

example: python -m jobs.load --url http://127.0.0.1:8000 --bundle runs/bundle
"""

from ray_app.benchmark.load import Config, run
from ray_app.cli import main

if __name__ == "__main__":
    main(Config, run, __doc__)
