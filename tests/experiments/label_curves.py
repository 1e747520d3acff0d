"""What labels are worth: `python -m tests.experiments.label_curves --output runs/label_curves`.

A few of the training rows of the labels, a tenth of them to tune thresholds by; on the same rows a bundle is trained
further from each `--base-models`, beside TF-IDF. All are judged on the test rows of the labels.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.evaluation.report import PredictionReport, evaluate_bundle, evaluate_predictions, predictions
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels import reader
from ray_app.labels.hold_out import hold_out
from ray_app.training import train

FIGURES = ("keywords", "sign", "exact")


def figures(report: PredictionReport) -> list[float | None]:
    """Micro F1 of keywords, of tuples by sign, of tuples."""
    tuples = report["tuples"]
    return [report["keywords"]["micro"]["f1"], tuples["micro_sign"]["f1"], tuples["micro"]["f1"]]


def drawn(rows: pa.Table, count: int, seed: int, share: float = 0.1) -> tuple[pa.Table, pa.Table]:
    """So many rows, a share of them for validation."""
    rows = rows.take(np.random.default_rng(seed).permutation(len(rows))[:count])
    kept, held = hold_out(count, share, seed)
    return rows.take(pa.array(kept)), rows.take(pa.array(held))


def trained(
    base: str, tables: Sequence[pa.Table], seed: int, epochs: int, output: Path, taxonomy: str = "default"
) -> str:
    """The bundle that a base model becomes on training and validation rows."""
    labels = output.with_suffix(".parquet")
    splits = [split for split, table in zip(("train", "validation"), tables, strict=True) for _ in range(len(table))]
    both = pa.concat_tables(tables)
    pq.write_table(both.set_column(both.column_names.index("split"), "split", pa.array(splits)), labels)
    if not (output / "bundle.json").is_file():
        train.run(
            train.Config(
                labels=str(labels),
                taxonomy=taxonomy,
                base_model=base,
                epochs=epochs,
                batch_size=8,
                patience=0,
                workers=0,
                seed=seed,
                output=str(output),
                resume=True,
            )
        )
    return str(output)


def main() -> None:
    """Prints a line of JSON per figure, as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--labels", default="sample")
    parser.add_argument("--base-models", default="starter:12,ready:3", help="each with its passes")
    parser.add_argument("--counts", default="100,300,1000")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    given.output.mkdir(parents=True, exist_ok=True)
    labels = reader.read_labels(given.labels)
    rows, test = labels.split("train"), labels.split("test")
    texts = test["text"].to_pylist()

    def say(model: str, count: int, seed: int, report: PredictionReport) -> None:
        found = dict(zip(FIGURES, figures(report), strict=True))
        print(json.dumps({"model": model, "labels": count, "seed": seed, **found}), flush=True)

    def judged(bundle: str) -> PredictionReport:
        runtime = BundleRuntime(bundle)
        return evaluate_bundle(runtime, test, predictions(runtime, test))

    bases = [base.rpartition(":")[::2] for base in given.base_models.split(",")]
    for seed in range(given.seeds):
        for count in map(int, given.counts.split(",")):
            tables = drawn(rows, count, seed)
            baseline = TfidfBaseline(*tables, labels.taxonomy)
            predicted = evaluate_predictions(test, baseline.predict(texts), baseline.score(texts), labels.taxonomy, {})
            say("TF-IDF", count, seed, predicted)
            for base, epochs in bases:
                output = given.output / f"{Path(base).name}-{count}-{seed}"
                say(base, count, seed, judged(trained(base, tables, seed, int(epochs), output)))


if __name__ == "__main__":
    main()
