"""One replica's share of the graph: the loaded stages of a bundle, behind a batcher. No Ray here.

In: tables of accepted rows with their options. Out: the same rows after these stages.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_app import __version__
from ray_app.arrays import Ints
from ray_app.errors import UserError, check
from ray_app.inference import stages
from ray_app.inference.bundle import BundleSummary, load, resolved_mode
from ray_app.inference.occlusion import Occlusion
from ray_app.inference.runtime import BundleRuntime
from ray_app.inference.stages import MASKED_MODES, assemble_findings, build_stages
from ray_app.inference.thresholds import identity
from ray_app.serving.batcher import BatchLimits, DynamicBatcher
from ray_app.serving.protocol import ROW

PROBE = "옷은 예쁘지만 배송은 늦어요"
CHARACTERS_PER_TOKEN = 8  # that no text reaches in the languages of reviews
PROBE_SECONDS, PROBE_ROWS = 0.5, (1, 4, 16, 64)  # the speed is measured on ever more rows, until this has passed
BATCH_SECONDS = 0.5  # per batch: a fast engine gets many of its own budgets, and no request waits long for a slow one


@dataclass(frozen=True, kw_only=True)
class ReplicaOptions:
    """How a replica analyzes, independent of the bundle."""

    stages: tuple[str, ...]  # names of those it runs
    last: bool  # whether it also assembles the findings
    thresholds: str = ""  # of one's own, as text
    highlights: str = "auto"
    opinions: bool = True
    words: str = "space"
    device: str = "auto"
    threads: int = 0
    batch_tokens: int = 0  # 0 for the engine's own budget, or more if it runs in BATCH_SECONDS
    queue_seconds: float = 5.0
    queue_rows: int = 10_000


class ReplicaEngine:
    """Stages of one bundle."""

    def __init__(self, bundle: str, options: ReplicaOptions, thresholds: str = "") -> None:
        own = load(bundle)
        self.runtime = BundleRuntime(own, options.device, options.threads, thresholds=thresholds)
        self.options, self.moved = options, identity(own, thresholds)
        graph = build_stages(options.highlights, options.words, opinions=options.opinions)
        self.stages = [make(self.runtime) for name, make in graph if name in options.stages]
        text = (self.runtime.bundle.path / "bundle.json").read_text(encoding="utf-8")
        self.content: dict[str, Any] = json.loads(text)  # read now: the next bundle may be written to the same folder

    @property
    def id(self) -> str:
        """The bundle's id; with thresholds of one's own it is another one, for a request meets one kind of both."""
        return self.runtime.bundle.id + (f" {self.moved}" if self.moved else "")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows with the columns of the stages before -> with those of these stages; after the last, with findings."""
        for stage in self.stages:
            table = stage(table)
        return assemble_findings(table, self.runtime.bundle) if self.options.last else table

    def cost(self, table: pa.Table) -> Ints:
        """[rows] tokens the classifiers will read: those of the text, and as many again per word to be masked."""
        masked = resolved_mode(self.options.highlights, self.runtime.meta) in MASKED_MODES
        tokens, words = self._sizes(table["text"].to_pylist())
        if not masked or "highlights" not in self.options.stages:
            return tokens
        return tokens * (1 + words * np.asarray(table["_highlights"].to_numpy(zero_copy_only=False), np.int64))

    def explain_cost(self, text: str) -> int:
        """Tokens that an explanation will read."""
        tokens, words = self._sizes([text])
        return int(tokens[0] * (1 + words[0]))

    def _sizes(self, texts: list[str]) -> tuple[Ints, Ints]:
        """[texts] tokens that are read, and words among them. A text too long to be read whole is not tokenized for it:
        a request may hold megabytes, and this is done before it is known whether it is taken."""
        most = self.runtime.meta.max_length
        heads = [text[: CHARACTERS_PER_TOKEN * most] for text in texts]
        whole = [head for head, text in zip(heads, texts, strict=True) if len(head) == len(text)]
        counted = iter(self.runtime.tokenizer.count(whole))
        tokens = np.array(
            [next(counted) + 2 if len(head) == len(text) else most for head, text in zip(heads, texts, strict=True)],
            np.int64,
        )
        tokens = np.minimum(tokens, most)
        words = np.array([len(head.split()) for head in heads], np.int64)
        return tokens, np.minimum(words, tokens)  # words beyond the cut are not masked

    def batcher(self, executor: Executor) -> DynamicBatcher:
        """A batcher that runs this engine in `executor`."""
        options = self.options
        limits = BatchLimits(
            batch_tokens=options.batch_tokens or self.runtime.device.token_budget,
            batch_seconds=0.0 if options.batch_tokens else BATCH_SECONDS,
            queue_seconds=options.queue_seconds,
            queue_rows=options.queue_rows,
        )
        return DynamicBatcher(self, self.cost, limits, executor)

    def probe(self, rows: int = 1) -> None:
        """Runs a few reviews: the first batch of a process is slow, and a broken model or GPU raises here.

        Raises UserError where a model's outputs are not numbers: whatever it found would be wrong.
        """
        table = self._probe_rows(rows)
        for stage in self.stages:
            table = stage(table)
        for name in {"keyword_probabilities", "scores"} & set(table.column_names):
            values = table[name].combine_chunks()
            while pa.types.is_list(values.type):
                values = values.flatten()
            finite = np.isfinite(values.to_numpy(zero_copy_only=False).astype(float)).all()
            check(finite, f"bundle {self.runtime.bundle.path}: its {name} are not numbers (NaN): train it again")

    def measure(self) -> tuple[int, float]:
        """Tokens and seconds of the best of a few batches; after `probe`. A busy machine may slow one down, and what is
        thought too slow would be refused."""
        best, began = (1, math.inf), time.monotonic()
        for rows in PROBE_ROWS:
            tokens, start = int(self.cost(self._probe_rows(rows)).sum()), time.monotonic()
            self.probe(rows)
            seconds = time.monotonic() - start
            best = min(best, (tokens, seconds), key=lambda each: each[1] / each[0])
            if time.monotonic() - began >= PROBE_SECONDS:
                break
        return best

    def _probe_rows(self, rows: int) -> pa.Table:
        """Different reviews, with the columns of the stages before."""
        texts = [f"{i} {PROBE}" for i in range(rows)]
        table = pa.table([["-"] * rows, texts, [None] * rows, [None] * rows, [True] * rows], ROW)
        keywords = [1.0] * len(self.runtime.meta.thresholds)
        if "keywords" not in self.options.stages:
            found = pa.array([keywords] * rows, pa.list_(pa.float32()))
            table = table.append_column("keyword_probabilities", found)
            table = table.append_column("truncated", pa.array([False] * rows))
        if not {"keywords", "scores"} & set(self.options.stages):
            even = [1.0 / len(self.runtime.meta.taxonomy.scores)] * len(self.runtime.meta.taxonomy.scores)
            nested = pa.list_(pa.list_(pa.float32()))
            table = table.append_column("scores", pa.array([[even] * len(keywords)] * rows, nested))
        return table

    def explaining(self, text: str, tokens: int) -> Iterator[Mapping[str, object] | None]:
        """The drop of every word for each found keyword in steps of about `tokens`, see `Occlusion.explaining`.

        No step at all where the bundle's tokenizer has no mask token.
        """
        try:
            occlusion = Occlusion(self.runtime, self.options.words)
        except UserError:
            return
        yield from occlusion.explaining(text, tokens)

    def info(self) -> dict[str, dict[str, object]]:
        """`version` and `taxonomy`: the responses of the routes of these names."""
        names = ("metrics", "support", "files", "thresholds", "max_length", "backend")
        own = {name: self.content[name] for name in names} | {"thresholds": list(self.runtime.meta.thresholds)}
        version = {"bundle": self.runtime.bundle.id, "nunchi": __version__, **own}
        return {"version": version, "taxonomy": self.content["taxonomy"]}


def stage_groups(highlights: str, fused: bool, bundle: BundleSummary | None = None) -> Sequence[tuple[str, ...]]:
    """The names of the stages that each deployment runs: all in one, or one each where `bundle` has work for it."""
    names = tuple(name for name, _ in build_stages(highlights, "space"))
    if fused:
        return [names]
    return [(name,) for name in names] if bundle is None else stages.stage_groups(highlights, "space", bundle)
