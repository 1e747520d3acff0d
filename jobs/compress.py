"""A bundle and unlabeled reviews -> a smaller bundle, taught to say the same; each passes a gate before it is sealed.

example: python -m jobs.compress --bundle ready --input reviews.parquet --layers 4 --output runs/student
cluster: ray job submit --working-dir . --entrypoint-num-gpus 1 -- python -m jobs.compress \\
             --input s3://shop/reviews --labels s3://shop/labels --output s3://shop/student
"""

from ray_app.cli import main
from ray_app.compression import gate
from ray_app.compression.distil import distil
from ray_app.compression.distil_options import DistilConfig
from ray_app.compression.gate import GateConfig

DISTIL = """A bundle and unlabeled reviews -> a student of it with fewer layers, or narrower ones.

example: python -m jobs.compress distil --bundle ready --input reviews.parquet --layers 4 --output runs/student
"""
GATE = """Two bundles and labels -> whether the smaller one may replace the other: a table; exit code 1 where it fails.

example: python -m jobs.compress gate --bundle ready --smaller runs/student --labels labels.parquet
"""

if __name__ == "__main__":
    main(DistilConfig, distil, __doc__, distil=(DistilConfig, distil, DISTIL), gate=(GateConfig, gate.run, GATE))
