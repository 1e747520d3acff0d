"""The endpoint's metrics in Prometheus' text format. In: responses and their cost. Out: the body of `/metrics`.

prometheus_client decides when it is imported whether processes share their counters: `share_counters` has to come
first, so it is imported inside functions.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the variable that prometheus_client reads
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = tuple(4**i for i in range(2, 11))


def share_counters(folder: str) -> None:
    """From now on all processes that name the same folder count together: a scrape of any of them shows the sum.

    Call it before anything imports prometheus_client, which would count for this process alone.
    """
    os.environ[SHARED] = folder
    os.makedirs(folder, 0o700, exist_ok=True)


class EndpointMetrics:
    """The counters of this process, or of all that share a folder."""

    def __init__(self) -> None:
        if SHARED in os.environ:  # by share_counters, or by the user
            share_counters(os.environ[SHARED])
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("nunchi_requests", "Requests answered.", ["route", "status"], registry=own)
        self.seconds = Histogram("nunchi_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=own)
        self.reviews = Counter("nunchi_reviews", "Reviews by result.", ["result"], registry=own)
        self.tokens = Counter("nunchi_tokens", "Tokens run, masked variants included.", registry=own)
        self.batch_rows = Histogram(
            "nunchi_batch_reviews", "Reviews in the batch of a request.", buckets=ROWS, registry=own
        )
        self.batch_tokens = Histogram("nunchi_batch_tokens", "Tokens in the batch.", buckets=TOKENS, registry=own)
        self.waited = Histogram(
            "nunchi_queue_wait_seconds", "Time before the first batch.", buckets=SECONDS, registry=own
        )
        self.queue = Gauge(
            "nunchi_queue_reviews", "Reviews waiting, when last measured.", registry=own, multiprocess_mode="livesum"
        )
        self.bundle = Gauge(
            "nunchi_bundle_info", "1 for the bundle in use.", ["bundle"], registry=own, multiprocess_mode="livemax"
        )
        self.update_failed = Gauge(
            "nunchi_bundle_update_failed",
            "1 while another bundle than the one in use was asked for, and could not be loaded.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.served = ""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts one response."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def batch(self, stats: dict[str, float]) -> None:
        """Counts one request's work: the `stats` of its BatchResult."""
        histograms = {"batch_rows": self.batch_rows, "batch_tokens": self.batch_tokens, "waited_seconds": self.waited}
        for name, histogram in histograms.items():
            if name in stats:
                histogram.observe(stats[name])
        self.tokens.inc(stats.get("tokens", 0))
        if "queue_rows" in stats:
            self.queue.set(stats["queue_rows"])

    def serves(self, version: Mapping[str, object]) -> None:
        """Notes what a replica says of its bundle: its `version`, see `http_app.Service.info`."""
        bundle = str(version["bundle"])
        if self.served not in ("", bundle):
            self.bundle.labels(self.served).set(0)  # what is in a shared folder cannot be taken back
        self.served = bundle
        self.bundle.labels(bundle).set(1)
        self.update_failed.set(version.get("update") == "failed")

    def text(self) -> bytes:
        """The body of `/metrics`: this process's counts, or the sums of all that share a folder."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if SHARED not in os.environ:
            return generate_latest(self.registry)
        drop_dead_gauges(os.environ[SHARED])
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)


def drop_dead_gauges(folder: str) -> None:
    """Removes the gauges of processes that ended: nothing waits in their queues. Their counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    for file in Path(folder).glob("gauge_live*_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process, folder)  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # it runs, as another user
