"""A process that shares its counters by the folder it is given, counts, and prints what `/metrics` would show."""

import sys

from ray_app.serving.prometheus import EndpointMetrics, share_counters

share_counters(sys.argv[1])
metrics = EndpointMetrics()
metrics.batch({"tokens": 5, "queue_rows": 7})
print(metrics.text().decode())
