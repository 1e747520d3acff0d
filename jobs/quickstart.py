"""The whole of Nunchi on the shipped sample, offline: train, analyse a catalog on Ray, evaluate, show findings.

example: python -m jobs.quickstart
cluster: ray job submit --working-dir . -- python -m jobs.quickstart
"""

import time
from dataclasses import dataclass

from ray_app import storage
from ray_app.catalog import analyze
from ray_app.cli import main
from ray_app.evaluation import evaluate
from ray_app.options import option
from ray_app.training import train


@dataclass(frozen=True)
class Config:
    """Options of `jobs.quickstart`."""

    output: str = option(
        "runs/quickstart", "folder to write; what an earlier quickstart left there is replaced", "Data"
    )
    catalog_rows: int = option(400, "rows of the catalog sample to analyse, 0 for all", "Data")
    base_model: str = option("starter", "encoder to start from", "Training")
    training_rows: int = option(2_400, "labelled reviews to train on, 0 for all", "Training")
    epochs: int = option(3, "passes of the keyword classifier", "Training")
    workers: int = option(0, "Ray Train workers; 0 trains in this process, which is quicker for so little", "Training")


def run(config: Config) -> None:
    """Runs the three steps as a user would, one after the other, and says what is where."""
    began = time.monotonic()
    bundle, analyses, evaluation = (f"{config.output}/{part}" for part in ("bundle", "analyses", "evaluation"))
    for old in (bundle, f"{bundle}.training", analyses, evaluation):
        storage.remove(old)
    print("1/3 training both classifiers", flush=True)
    train.run(
        train.Config(
            labels="sample",
            output=bundle,
            base_model=config.base_model,
            epochs=config.epochs,
            score_epochs=1,
            encoder_dropout=0.0,
            limit=config.training_rows,
            workers=config.workers,
            patience=0,
            probe=False,  # the starter's vectors gain nothing by it
        )
    )
    print(f"\n2/3 analysing the catalog ({time.monotonic() - began:.0f} s)", flush=True)
    analyze.run(
        analyze.Config(
            input="sample",
            bundle=bundle,
            output=analyses,
            limit=config.catalog_rows,
            keep=("text", "product", "mall", "category", "rating", "created_at"),
            unit_rows=100,
            progress_seconds=10,
        )
    )
    print(f"\n3/3 evaluating on reviews it has not seen ({time.monotonic() - began:.0f} s)", flush=True)
    evaluate.run(evaluate.Config(bundle=bundle, labels="sample", output=evaluation))
    _show(analyses)
    print(
        f"\n{time.monotonic() - began:.0f} s. Files: {bundle}/  {analyses}/data/  {evaluation}/report.json\nNext:\n"
        f"  python -m jobs.analyze --input YOUR_REVIEWS.parquet --bundle {bundle} --output runs/mine --dry-run\n"
        "  python -m jobs.train --labels YOUR_LABELS.csv --base-model klue/roberta-base --output runs/bundle\n"
        "  python -m jobs.evaluate --bundle runs/bundle --labels YOUR_LABELS.csv --output runs/evaluation"
    )


def _show(analyses: str, rows: int = 8) -> None:
    """A few real reviews with their findings: those with most keywords, of different products."""
    table = storage.read_parquet(f"{analyses}/data").select(["product", "text", "findings"]).to_pylist()
    short = [row for row in table if len(row["text"]) <= 60 and len(row["text"].split()) >= 4]
    short.sort(key=lambda row: -sum(f["highlight"]["drop"] > 0.3 for f in row["findings"] if f["highlight"]))
    shown = {row["product"]: row for row in reversed(short)}  # the best of each product
    for row in [row for row in short if shown[row["product"]] is row][:rows]:
        found = [f for f in row["findings"] if f["highlight"] and f["highlight"]["drop"] > 0.1]
        words = " · ".join(f"{f['keyword']} {f['score']:+d} 「{f['highlight']['word']}」" for f in found)
        print(f"\n{row['product']}: {row['text']}\n    -> {words}")


if __name__ == "__main__":
    main(Config, run, __doc__)
