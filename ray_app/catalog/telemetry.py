"""Metrics of a catalog run: in Prometheus, through Ray, and as JSON lines. In: counts of committed units; no text.

Ray exports every metric as `ray_<name>` with the label `run`, on each node's metrics port (`ray metrics
launch-prometheus` writes a scrape config); deploy/grafana.json shows them.
"""

import json
import time
from collections.abc import Mapping

COUNTERS = {
    "nunchi_units_total": "Units of work committed.",
    "nunchi_rows_total": "Rows of committed units, rejected ones included.",
    "nunchi_rejected_rows_total": "Rows that were rejected.",
    "nunchi_tokens_total": "Tokens run, masked variants included.",
    "nunchi_stage_seconds_total": "Seconds by stage of the work.",
}
MASKED_SHARE = "nunchi_masked_share"


class RunMetrics:
    """One run's metrics, held by the process that counts units. Without Ray only the JSON lines are written.

    Args:
        log_json: write a JSON line to stdout for every committed unit.
    """

    def __init__(self, run_id: str, log_json: bool = False) -> None:
        import ray
        from ray.util.metrics import Counter, Gauge

        self.run, self.log_json = {"run": run_id}, log_json
        self.reviews = self.masked = 0.0
        self.counters: dict[str, Counter] = {}
        if ray.is_initialized():
            keys = {"nunchi_stage_seconds_total": ("run", "stage")}
            self.counters = {name: Counter(name, text, keys.get(name, ("run",))) for name, text in COUNTERS.items()}
            self.share = Gauge(MASKED_SHARE, "Share of analyzed reviews that were masked.", ("run",))

    def add(
        self,
        rows: int,
        rejected: int = 0,
        tokens: float = 0,
        masked: float = 0,
        stage_seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Counts one committed unit: its rows, those rejected, tokens run, reviews masked, seconds by stage."""
        seconds = dict(stage_seconds or {})
        self.reviews, self.masked = self.reviews + rows - rejected, self.masked + masked
        amounts = {"units": 1, "rows": rows, "rejected_rows": rejected, "tokens": tokens}
        if self.counters:
            for name, amount in amounts.items():
                self._count(f"nunchi_{name}_total", amount)
            for stage, amount in seconds.items():
                self._count("nunchi_stage_seconds_total", amount, stage=stage)
            self.share.set(self.masked / max(1.0, self.reviews), self.run)
        self.log("unit", rows=rows, rejected=rejected, tokens=tokens, masked=masked, stage_seconds=seconds)

    def log(self, event: str, **facts: object) -> None:
        """Prints one JSON line if `log_json` is set: time (UTC), run, event and facts (numbers, ids, paths)."""
        if self.log_json:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            print(json.dumps({"time": now, **self.run, "event": event, **facts}, ensure_ascii=False), flush=True)

    def _count(self, name: str, amount: float, **labels: str) -> None:
        if amount > 0:  # Ray refuses 0
            self.counters[name].inc(amount, {**self.run, **labels})
