"""What each kind of tuning is worth: `python -m tests.experiments.tuning_kinds --tune full,lora --rows 100,300`.

A few of the training rows of the labels, and validation rows, a tenth as many and at least 30; a bundle is tuned on
them from a base model and judged on the test rows. A line of JSON is added to `--output` for every seed, number of rows
and kind that it does not have yet; with `--table` its lines become a table, with means and spread over seeds; with
`--shares` nothing trains: what would is counted. A process of its own per kind: its memory is measured.
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

from ray_app.arrays import evenly
from ray_app.data.taxonomy import dump, load
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

ASKED = ("base_model", "labels", "rows", "tested", "tune", "seed", "epochs", "learning_rate")
FOUND = ("keywords", "tuples", "mixed")


def drawn(options: argparse.Namespace, folder: Path) -> pa.Table:
    """The test rows; in the folder are labels with so many training rows (0: all), and the keywords of all."""
    given, rows, seed = options.labels, options.rows, options.seed
    labels = reader.read_labels(given, options.taxonomy, "fail")
    (folder / "t.yaml").write_text(dump(labels.taxonomy), encoding="utf-8")
    whole, held = training_split(labels, given, 0.1, 0, 0)
    rng = np.random.default_rng(seed)
    rows = min(rows or len(whole), len(whole))
    parts = [
        table.take(rng.permutation(len(table))[:count]) for table, count in ((whole, rows), (held, max(30, rows // 10)))
    ]
    splits = [name for name, part in zip(("train", "validation"), parts, strict=True) for _ in range(len(part))]
    both = pa.concat_tables(parts)
    pq.write_table(both.set_column(both.column_names.index("split"), "split", pa.array(splits)), folder / "l.parquet")
    tested: pa.Table = labels.split("test")
    return tested.take(pa.array(evenly(len(tested), options.tested or len(tested))))


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One training and its figures."""
    tested = drawn(options, folder)
    shares: list[str] = []
    counted = tune.counted
    tune.counted = lambda *told: shares.append(counted(*told)) or shares[-1]  # type: ignore[func-returns-value]
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    given: dict[str, Any] = {"learning_rate": options.learning_rate, "epochs": options.epochs, "tune": options.tune}
    train.run(
        train.Config(
            labels=str(folder / "l.parquet"),
            taxonomy=str(folder / "t.yaml"),
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
        **{name: getattr(options, name) for name in ASKED},
        "keywords": report["keywords"]["micro_varying"]["f1"],
        "tuples": report["tuples"]["micro_sign"]["f1"],
        "mixed": evaluate_mixed(runtime, tested)["sign_accuracy"],
        "trains": shares[0],
        "seconds": round(seconds, 1),
        "mib": round((peak - before) / 1024),
        "adapter": sum(kept),
    }


def append(options: argparse.Namespace) -> None:
    """Adds the line of one kind."""
    with tempfile.TemporaryDirectory() as scratch:
        row = measured(options, Path(scratch))
    with options.output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(json.dumps(row, ensure_ascii=False), flush=True)


def lines_of(output: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] if output.is_file() else []


def measure(options: argparse.Namespace) -> None:
    """Every seed, number of rows and kind that `--output` does not have yet."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for seed, rows, kind in itertools.product(
        *(getattr(options, name).split(",") for name in ("seed", "rows", "tune"))
    ):
        options.seed, options.rows, options.tune = int(seed), int(rows), kind
        asked = {name: getattr(options, name) for name in ASKED}
        if not any(asked.items() <= line.items() for line in lines_of(options.output)):
            process = multiprocessing.get_context("fork").Process(target=append, args=(options,))
            process.start()
            process.join()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    texts = {
        "base-model": "starter",
        "labels": "sample",
        "taxonomy": "default",
        "tune": "full",
        "rows": "100",
        "seed": "0",
    }
    for name, value in texts.items():
        parser.add_argument(f"--{name}", default=value)
    for name, number in (("epochs", 10), ("batch-size", 16), ("tested", 0)):
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
    """Means over seeds and, of quality, half the distance between the best and the worst seed; a row per base model,
    labels, rows and kind."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(tuple(line[name] for name in ("base_model", "labels", "rows", "tune")), []).append(line)
    shown = []
    for key, same in sorted(found.items(), key=lambda one: (*one[0][:3], KINDS.index(one[0][3]))):
        values = np.array([[line[name] for name in FOUND] for line in same])
        around = [f" ± {spread / 2:.3f}" if len(same) > 1 else "" for spread in np.ptp(values, 0)]
        quality = [f"{mean:.3f}{spread}" for mean, spread in zip(values.mean(0), around, strict=True)]
        costs = [f"{np.mean([line[name] for line in same]):.0f}" for name in ("seconds", "mib")]
        size = f"{np.mean([line['adapter'] for line in same]) / 1e6:.2f}"
        share = same[0]["trains"].partition("(")[2].partition(")")[0]
        shown.append(f"| {' | '.join(map(str, (*key, len(same), *quality, share, *costs, size)))} |")
    return "\n".join(shown)


if __name__ == "__main__":
    given = parsed()
    if given.table:
        print(table(lines_of(given.output)))
    elif given.shares:
        print(shares())
    else:
        measure(given)
