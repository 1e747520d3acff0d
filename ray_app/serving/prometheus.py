"""What an endpoint counts, in Prometheus' text format. In: answers and what they cost. Out: the body of `/metrics`.

Where SHARED names a folder when this is imported, all processes with that folder count together: a scrape of any one
of them shows the sum.
"""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name for it
if SHARED in os.environ:
    os.makedirs(os.environ[SHARED], 0o700, exist_ok=True)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = tuple(4**i for i in range(2, 11))


class EndpointMetrics:
    """One process's numbers, or of all that share a folder."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("nunchi_requests", "Requests answered.", ["route", "status"], registry=own)
        self.seconds = Histogram("nunchi_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=own)
        self.reviews = Counter("nunchi_reviews", "Reviews by what became of them.", ["result"], registry=own)
        self.tokens = Counter("nunchi_tokens", "Tokens run, masked variants included.", registry=own)
        self.batch_rows = Histogram(
            "nunchi_batch_reviews", "Reviews in the batch of a request.", buckets=ROWS, registry=own
        )
        self.batch_tokens = Histogram("nunchi_batch_tokens", "Tokens in the batch.", buckets=TOKENS, registry=own)
        self.waited = Histogram(
            "nunchi_queue_wait_seconds", "Time before the first batch.", buckets=SECONDS, registry=own
        )
        self.queue = Gauge(
            "nunchi_queue_reviews", "Reviews waiting, when last seen.", registry=own, multiprocess_mode="livesum"
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def batch(self, stats: dict[str, float]) -> None:
        """Takes the `stats` of an Answer."""
        meters = {"batch_rows": self.batch_rows, "batch_tokens": self.batch_tokens, "waited_seconds": self.waited}
        for name, histogram in meters.items():
            if name in stats:
                histogram.observe(stats[name])
        self.tokens.inc(stats.get("tokens", 0))
        if "queue_rows" in stats:
            self.queue.set(stats["queue_rows"])

    def text(self) -> bytes:
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        forget_the_dead(os.environ[SHARED])
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_the_dead(folder: str) -> None:
    """What waited in processes that are gone waits no more; what they counted still counts."""
    for file in Path(folder).glob("gauge_live*_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, folder)  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # it lives, as another user
