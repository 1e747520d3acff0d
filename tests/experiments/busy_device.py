"""What the host costs a review, and how busy it keeps a device: `python -m tests.experiments.busy_device`.

The model is left out: in its place stands one whose outputs are cheap. `host` counts the CPU seconds of everything else
per review, in one thread. `busy` lets it sleep as long as a GPU would compute (`--flops`, of roberta-base's shape), and
prints the share of a run's time in which it slept. Nothing here needs a GPU; `python -m jobs.benchmark` measures one.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ray_app.benchmark.random_bundle import SHAPES, random_bundle
from ray_app.catalog.options import Config
from ray_app.catalog.pipeline import StageWorker
from ray_app.data.reviews import read_first_texts
from ray_app.engine.classifier import Classifier
from ray_app.engine.ragged import Sequences
from ray_app.inference.runtime import BundleRuntime

MEAN = -1.13  # of logits with a deviation of 1: some 13 of 100 are positive, two of fifteen keywords
LAYERS, HIDDEN, INNER, _ = SHAPES["roberta-base"]
WEIGHTS = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)


class StandIn:
    """Outputs by a table in place of a model; each run sleeps as long as a device of `flops` FLOP/s would compute."""

    def __init__(self, classifier: Classifier, flops: float) -> None:
        self.flops, self.outputs, self.queries = flops, classifier.outputs, classifier.queries
        rng = np.random.default_rng(0)
        self.table = torch.from_numpy((rng.standard_normal((4_096, self.outputs)) + MEAN).astype(np.float32))
        self.seconds = self.cpu = 0.0
        self.lock = threading.Lock()  # a device does one thing at a time

    @staticmethod
    def rows(count: int) -> int:
        """As on a GPU: no rows are added."""
        return count

    def __call__(self, batch: Sequences, vectors: bool = False) -> Tensor:
        """Logits [n, outputs]."""
        began, cpu = time.perf_counter(), time.thread_time()
        with self.lock:
            logits = self.table[np.add.reduceat(batch.ids, batch.offsets[:-1]) % len(self.table)]
            if self.flops:
                time.sleep(max(0.0, 2.0 * WEIGHTS * len(batch.ids) / self.flops))
            self.seconds += time.perf_counter() - began
        self.cpu += time.thread_time() - cpu
        return logits

    def attended(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Logits, and even attention [tokens, queries]."""
        return self(batch), torch.full((len(batch.ids), self.queries), 0.01)


def replaced(runtime: BundleRuntime, flops: float) -> list[StandIn]:
    """Stand-ins in the classifiers' places."""
    found = []
    for classifier in {id(c): c for c in (runtime.keywords, runtime.scores)}.values():
        stand_in = StandIn(classifier, flops)
        classifier.flat = stand_in  # type: ignore[assignment]
        found.append(stand_in)
    return found


def units(texts: Sequence[str], rows: int) -> list[pa.Table]:
    """Tables of accepted rows as the reader hands them on."""
    return [
        pa.table(
            {
                "review_id": [str(i) for i in range(start, start + len(texts[start : start + rows]))],
                "text": texts[start : start + rows],
            }
        )
        for start in range(0, len(texts), rows)
    ]


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=("host", "busy"))
    parser.add_argument("--input", default="sample")
    parser.add_argument("--bundle", default="", help="default: two encoders with random weights")
    parser.add_argument("--highlights", default="exact")
    parser.add_argument("--reviews", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flops", type=float, default=445e12, help="of the device that `busy` sleeps for")
    given = parser.parse_args()
    torch.set_num_threads(1)
    texts = read_first_texts(given.input, "", given.reviews)
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or str(random_bundle(Path(folder), "tiny"))
        config = Config(input="-", output=folder, bundle=bundle, highlights=given.highlights, opinions=False)
        worker = StageWorker(config, folder, ["keywords", "scores", "highlights"], last=True, threads=1)
        stand_ins = replaced(worker.runtime, given.flops if given.measure == "busy" else 0.0)
        figures = []
        for _ in range(given.rounds + 1):
            for each in stand_ins:
                each.seconds = each.cpu = 0.0
            wall, cpu = time.perf_counter(), time.process_time()
            for table in units(texts, 2_000):
                worker.run_stages(table)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            model = sum(each.cpu for each in stand_ins)
            figures.append(
                {
                    "host_us": 1e6 * (cpu - model) / len(texts),
                    "busy": sum(each.seconds for each in stand_ins) / wall,
                    "reviews_per_second": len(texts) / wall,
                }
            )
    medians = {name: round(float(np.median([each[name] for each in figures[1:]])), 3) for name in figures[0]}
    print(json.dumps({"reviews": len(texts), **medians}))


if __name__ == "__main__":
    main()
