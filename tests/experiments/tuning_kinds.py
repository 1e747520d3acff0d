"""What each kind of tuning is worth: `python -m tests.experiments.tuning_kinds --tune full,lora --rows 100 --seed 0`.

A few of the training rows of the labels, and validation rows, a tenth as many and at least 30; a bundle is tuned on
them from a base model and judged on the test rows. A line of JSON is added to `--output`; with `--table` the lines in
it become a table, with the means over seeds; with `--shares` nothing trains: what would is counted. A process of its
own per kind: its memory is measured.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.data.taxonomy import load
from ray_app.engine.encoder import load_base_model, load_keyword_scorer
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.evaluation.report import evaluate_bundle, evaluate_mixed, predictions
from ray_app.inference.bundle_names import READY
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels import reader
from ray_app.labels.hold_out import training_split
from ray_app.training import train
from ray_app.training.tuning import tune
from ray_app.training.tuning.kinds import KINDS


def drawn(given: str, taxonomy: str, rows: int, seed: int, folder: Path) -> tuple[Path, pa.Table]:
    """A file of labels with so many training rows (0: all), and the test rows."""
    labels = reader.read_labels(given, taxonomy, "fail")
    whole, held = training_split(labels, given, 0.1, 0, 0)
    rng = np.random.default_rng(seed)
    rows = min(rows or len(whole), len(whole))
    parts = [
        table.take(rng.permutation(len(table))[:count]) for table, count in ((whole, rows), (held, max(30, rows // 10)))
    ]
    splits = [name for name, part in zip(("train", "validation"), parts, strict=True) for _ in range(len(part))]
    both = pa.concat_tables(parts)
    pq.write_table(both.set_column(both.column_names.index("split"), "split", pa.array(splits)), folder / "l.parquet")
    return folder / "l.parquet", labels.split("test")


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One training and its figures."""
    labels, tested = drawn(options.labels, options.taxonomy, options.rows, options.seed, folder)
    shares: list[str] = []
    counted = tune.counted
    tune.counted = lambda *told: shares.append(counted(*told)) or shares[-1]  # type: ignore[func-returns-value]
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    given: dict[str, Any] = {"learning_rate": options.learning_rate, "epochs": options.epochs, "tune": options.tune}
    train.run(
        train.Config(
            labels=str(labels),
            taxonomy=options.taxonomy,
            base_model=options.base_model,
            batch_size=options.batch_size,
            workers=0,
            device="cpu",
            seed=options.seed,
            output=str(folder / "bundle"),
            **given,
        )
    )
    seconds, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runtime = BundleRuntime(str(folder / "bundle"), "cpu")
    report = evaluate_bundle(runtime, tested, predictions(runtime, tested))
    kept = [path.stat().st_size for path in (folder / "bundle.training" / "adapter").rglob("*.safetensors")]
    return {
        **{name: getattr(options, name) for name in ("base_model", "labels", "rows", "tune", "seed", "epochs")},
        "learning_rate": options.learning_rate,
        "keywords": report["keywords"]["micro_varying"]["f1"],
        "tuples": report["tuples"]["micro_sign"]["f1"],
        "mixed": evaluate_mixed(runtime, tested)["sign_accuracy"],
        "trains": shares[0],
        "seconds": round(seconds, 1),
        "mib": round((peak - before) / 1024),
        "adapter": sum(kept),
    }


def append(options: argparse.Namespace, kind: str) -> None:
    """Adds the line of one kind."""
    options.tune = kind
    with tempfile.TemporaryDirectory() as scratch:
        row = measured(options, Path(scratch))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(json.dumps(row, ensure_ascii=False), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("base-model", "starter"), ("labels", "sample"), ("taxonomy", "default"), ("tune", "full")):
        parser.add_argument(f"--{name}", default=value)
    for name, number in (("rows", 100), ("seed", 0), ("epochs", 10), ("batch-size", 16)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--learning-rate", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=Path("runs/tuning_kinds.jsonl"))
    for name in ("table", "shares"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def shares() -> str:
    """Per shipped base model and kind: weights that train in the encoder and in the joint head, their share, and the
    megabytes that they take beside the base."""
    taxonomy, shown = load(), []
    for base, kind in itertools.product(("starter", "ready"), KINDS):
        if base == "starter":
            encoder, hf = load_base_model(base)
            width, outputs = int(encoder.config.hidden_size), len(taxonomy.scores) + 1
            model = KeywordScorer(encoder, KeywordAttention(len(taxonomy.names), width, outputs))
        else:
            model, hf = load_keyword_scorer(READY / "joint"), Tokenizer.load(READY / "tokenizer").hf
        tune.tune(model, tune.Way(kind=kind), Tokenizer(hf), taxonomy.names)
        inside, head, whole = (
            tune.trainable(part)[at] for part, at in ((model.encoder, 0), (model.head, 0), (model, 1))
        )
        size = f"{(inside + head) * 4 / 1e6:.2f}"
        shown.append(f"| {base} | {kind} | {inside:,} | {head:,} | {(inside + head) / whole:.1%} | {size} |")
    return "\n".join(shown)


def table(lines: list[dict[str, Any]]) -> str:
    """Means over seeds, a row per base model, rows and kind."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(tuple(line[name] for name in ("base_model", "labels", "rows", "tune")), []).append(line)
    shown = []
    for key, same in found.items():
        means = [f"{np.mean([line[name] for line in same]):.3f}" for name in ("keywords", "tuples", "mixed")]
        costs = [f"{np.mean([line[name] for line in same]):.0f}" for name in ("seconds", "mib")]
        size = f"{np.mean([line['adapter'] for line in same]) / 1e6:.2f}"
        shown.append(" | ".join(map(str, (*key, len(same), *means, *costs, size, same[0]["trains"]))))
    return "\n".join(shown)


if __name__ == "__main__":
    asked = parsed()
    if asked.table:
        print(table([json.loads(line) for line in asked.output.read_text(encoding="utf-8").splitlines()]))
    if asked.shares:
        print(shares())
    for kind in [] if asked.table or asked.shares else asked.tune.split(","):
        process = multiprocessing.get_context("fork").Process(target=append, args=(asked, kind))
        process.start()
        process.join()
