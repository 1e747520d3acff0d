"""What the host costs a review, and how busy it keeps a device: `python -m tests.experiments.busy_device`.

The model is left out: in its place stands one whose outputs are cheap. `host` counts the CPU seconds of everything else
per review, in one thread. `busy` lets it sleep as long as a GPU would compute (`--flops`, of roberta-base's shape), and
prints the share of a run's time in which it slept. Nothing here needs a GPU; `python -m jobs.benchmark` measures one.
"""

import argparse
import io
import json
import shutil
import tempfile
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ray_app.benchmark.random_bundle import SHAPES, random_bundle
from ray_app.catalog import analyze
from ray_app.catalog.options import Config
from ray_app.catalog.pipeline import LANES, Lane, StageWorker
from ray_app.data.reviews import read_first_texts
from ray_app.engine.classifier import Classifier
from ray_app.engine.ragged import Sequences
from ray_app.inference.own_thread import OwnThread

LOAD = StageWorker._load
MEAN = -1.13  # of logits with a deviation of 1: some 13 of 100 are positive, two of fifteen keywords
LAYERS, HIDDEN, INNER, _ = SHAPES["roberta-base"]
WEIGHTS = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)


class StandIn:
    """Outputs by a table in place of a model; each run sleeps as long as a device of `flops` FLOP/s would compute."""

    def __init__(self, classifier: Classifier, flops: float, device: threading.Lock) -> None:
        self.device = device  # does one thing at a time
        self.flops, self.outputs, self.queries = flops, classifier.outputs, classifier.queries
        rng = np.random.default_rng(0)
        self.table = torch.from_numpy((rng.standard_normal((4_096, self.outputs)) + MEAN).astype(np.float32))
        self.seconds = self.cpu = self.first = self.last = 0.0

    @staticmethod
    def rows(count: int) -> int:
        """As on a GPU: no rows are added."""
        return count

    def __call__(self, batch: Sequences, vectors: bool = False) -> Tensor:
        """Logits [n, outputs]."""
        cpu = time.thread_time()
        logits = self.table[np.add.reduceat(batch.ids, batch.offsets[:-1]) % len(self.table)]
        self.cpu += time.thread_time() - cpu
        with self.device:
            began = time.perf_counter()
            if self.flops:
                time.sleep(2.0 * WEIGHTS * len(batch.ids) / self.flops)
            self.last = time.perf_counter()
        self.first = self.first or began
        self.seconds += self.last - began
        return logits

    def attended(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Logits, and even attention [tokens, queries]."""
        return self(batch), torch.full((len(batch.ids), self.queries), 0.01)


class Measured:
    """A catalog of texts, and runs over it whose models are stand-ins."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.bundle = given.bundle or str(random_bundle(folder / "bundle", "tiny"))
        texts = read_first_texts(given.input, "", given.reviews)
        texts = (texts * (1 + given.reviews // len(texts)))[: given.reviews]
        table = pa.table({"review_id": [str(i) for i in range(len(texts))], "text": texts})
        pq.write_table(table, folder / "reviews.parquet", row_group_size=given.unit_rows)
        self.stand_ins: list[StandIn] = []

    def load(self, worker: StageWorker, config: Config, threads: int, last: bool) -> list[Lane]:
        """Lanes as beside a GPU, of which there is none here."""
        [first] = LOAD(worker, config, threads, last)
        runtime, flops = first.runtime, self.given.flops if self.given.measure == "busy" else 0.0
        models = {id(model): model for model in (runtime.keywords, runtime.scores)}.values()
        device = threading.Lock()
        self.stand_ins = [StandIn(model, flops, device) for model in models]
        for model, stand_in in zip(models, self.stand_ins, strict=True):
            model.flat = stand_in  # type: ignore[assignment]
        more = range(1, self.given.lanes)
        return [first, *(Lane(runtime.twin(), config, worker.out, worker.names, last, OwnThread()) for _ in more)]

    def run(self, number: int) -> dict[str, float]:
        """Figures of a run, from the first call of a model on."""
        output = self.folder / f"run-{number}"
        config = Config(
            input=str(self.folder / "reviews.parquet"),
            output=str(output),
            bundle=self.bundle,
            highlights=self.given.highlights,
            opinions=False,
            placement="here",
            unit_rows=self.given.unit_rows,
            progress_seconds=3_600,
            findings_table="off",
        )
        usage = time.process_time()
        with redirect_stdout(io.StringIO()):
            analyze.run(config)
        usage = time.process_time() - usage
        shutil.rmtree(output)
        wall = max(one.last for one in self.stand_ins) - min(one.first for one in self.stand_ins)
        return {
            "cpu_us": 1e6 * (usage - sum(one.cpu for one in self.stand_ins)) / self.given.reviews,
            "busy": sum(one.seconds for one in self.stand_ins) / wall,
            "reviews_per_second": self.given.reviews / wall,
        }


def host_cost(measured: Measured) -> dict[str, float]:
    """CPU microseconds per review of the graph alone, without reading and writing."""
    worker = StageWorker(
        Config(input="-", output="-", bundle=measured.bundle, highlights=measured.given.highlights, opinions=False),
        str(measured.folder),
        ["keywords", "scores", "highlights"],
        last=True,
        threads=1,
    )
    table = pq.read_table(measured.folder / "reviews.parquet")
    units = [table.slice(start, measured.given.unit_rows) for start in range(0, len(table), measured.given.unit_rows)]
    usage = time.process_time()
    for unit in units:
        worker.lanes[0].run_stages(unit)
    usage = time.process_time() - usage - sum(one.cpu for one in measured.stand_ins)
    return {"host_us": 1e6 * usage / len(table)}


def main() -> None:
    """Prints a line of JSON: medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=("host", "busy"))
    parser.add_argument("--input", default="sample")
    parser.add_argument("--bundle", default="", help="default: two encoders with random weights")
    parser.add_argument("--highlights", default="exact")
    parser.add_argument("--reviews", type=int, default=2_000)
    parser.add_argument("--unit-rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, default=LANES, help="units that are worked on at once")
    parser.add_argument("--flops", type=float, default=445e12, help="of the device that `busy` sleeps for")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(given, Path(folder))
        StageWorker._load = lambda worker, *options: measured.load(worker, *options)  # type: ignore[method-assign]
        figures = [
            host_cost(measured) if given.measure == "host" else measured.run(number)
            for number in range(given.rounds + 1)
        ]
    medians = {name: round(float(np.median([each[name] for each in figures[1:]])), 3) for name in figures[0]}
    print(json.dumps({"reviews": given.reviews, **medians}))


if __name__ == "__main__":
    main()
