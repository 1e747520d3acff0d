"""One replica's share of the graph: loaded stages of a bundle behind a gatherer. No Ray in here.

In: tables of accepted rows with their wishes. Out: the same rows after these stages, gathered over requests.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app import __version__
from ray_app.arrays import Ints
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import assemble_findings, build_stages
from ray_app.serving.batcher import BatchLimits, DynamicBatcher
from ray_app.serving.protocol import ROW

PROBE = "옷은 예쁘지만 배송은 늦어요"
SECONDS = 0.5  # a gathered batch takes: many of the engine's own where it is quick, and none waits long for it to end


@dataclass(frozen=True, kw_only=True)
class ReplicaOptions:
    """How a replica analyses, whatever the bundle."""

    names: tuple[str, ...]  # of the stages it runs
    last: bool  # whether it also assembles the findings
    highlights: str = "exact"
    words: str = "space"
    device: str = "auto"
    threads: int = 0
    batch_tokens: int = 0  # 0 for the engine's own budget, or what takes SECONDS
    queue_seconds: float = 5.0
    queue_rows: int = 10_000


class ReplicaEngine:
    """Stages of one bundle."""

    def __init__(self, bundle: str, ways: ReplicaOptions) -> None:
        self.runtime, self.ways = BundleRuntime(bundle, ways.device, ways.threads), ways
        graph = build_stages(ways.highlights, ways.words)
        self.stages = [make(self.runtime) for name, make in graph if name in ways.names]
        content = (self.runtime.bundle.path / "bundle.json").read_text(encoding="utf-8")
        self.content: dict[str, Any] = json.loads(content)  # now: the next bundle may be written to the same folder

    @property
    def id(self) -> str:
        return self.runtime.bundle.id

    def __call__(self, table: pa.Table) -> pa.Table:
        for stage in self.stages:
            table = stage(table)
        return assemble_findings(table, self.runtime.bundle) if self.ways.last else table

    def cost(self, table: pa.Table) -> Ints:
        """[rows] tokens the classifiers will read: each text, and once more for each of its words to be masked."""
        texts = table["text"].to_pylist()
        tokens = np.minimum(self.runtime.tokenizer(texts).sequences.lengths + 2, self.runtime.meta.max_length)
        if "highlights" not in self.ways.names:
            return tokens
        words = np.array([len(text.split()) for text in texts], np.int64)
        words = np.minimum(words, tokens)  # those beyond the cut are not masked
        return tokens * (1 + words * np.asarray(table["_highlights"].to_numpy(zero_copy_only=False), np.int64))

    def gatherer(self, executor: Executor) -> DynamicBatcher:
        ways = self.ways
        tokens, seconds = (
            (ways.batch_tokens, 0.0) if ways.batch_tokens else (self.runtime.placement.token_budget, SECONDS)
        )
        return DynamicBatcher(
            self,
            self.cost,
            BatchLimits(
                batch_tokens=tokens, batch_seconds=seconds, queue_seconds=ways.queue_seconds, queue_rows=ways.queue_rows
            ),
            executor,
        )

    def probe(self) -> None:
        """Runs one review: the first batch of a process is slow, and a model or a GPU that is broken raises here."""
        row = pa.table([["-"], [PROBE], [None], [None], [True]], ROW)
        keywords = [1.0] * len(self.runtime.meta.thresholds)
        if "keywords" not in self.ways.names:
            row = row.append_column("keyword_probabilities", pa.array([keywords], pa.list_(pa.float32())))
            row = row.append_column("truncated", pa.array([False]))
        for stage in self.stages:
            row = stage(row)

    def explain(self, text: str) -> dict[str, Any]:
        """Raises UserError for a bundle that cannot mask."""
        return Occlusion(self.runtime, self.ways.words).explain(text)

    def info(self) -> dict[str, Any]:
        """What `/version` and `/taxonomy` answer."""
        told = ("metrics", "support", "files", "thresholds", "max_length", "backend")
        version = {"bundle": self.id, "nunchi": __version__, **{name: self.content[name] for name in told}}
        return {"version": version, "taxonomy": self.content["taxonomy"]}


def groups(highlights: str, fused: bool) -> Sequence[tuple[str, ...]]:
    """The stages each deployment runs: all in one, or one each."""
    names = tuple(name for name, _ in build_stages(highlights, "space"))
    return [names] if fused else [(name,) for name in names]
