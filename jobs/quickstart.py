"""The whole of Nunchi on the shipped sample, offline: train, analyse a catalog on Ray, evaluate, show findings.

example: python -m jobs.quickstart
cluster: ray job submit --working-dir . -- python -m jobs.quickstart
"""

import time
from dataclasses import dataclass

from ray_app import analyze, evaluate, storage, train
from ray_app.config import main, option


@dataclass(frozen=True)
class Config:
    """Options of `jobs.quickstart`."""

    output: str = option(
        "runs/quickstart", "folder to write; what an earlier quickstart left there is replaced", "Data"
    )
    catalog_rows: int = option(600, "rows of the catalog sample to analyse, 0 for all", "Data")
    base_model: str = option("starter", "encoder to start from", "Training")
    training_rows: int = option(3_000, "labelled reviews to train on, 0 for all", "Training")
    epochs: int = option(4, "passes of the keyword classifier", "Training")


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
            score_epochs=2,
            limit=config.training_rows,
            patience=0,
        )
    )
    print(f"\n2/3 analysing the catalog ({time.monotonic() - began:.0f} s)", flush=True)
    analyze.run(
        analyze.Config(
            input="sample",
            bundle=bundle,
            output=analyses,
            limit=config.catalog_rows,
            keep="product,mall,category,rating,created_at",
            unit_rows=150,
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


def _show(analyses: str, rows: int = 12) -> None:
    """A small table of real findings, the surest of as many products as there are rows."""
    table = storage.read_parquet(f"{analyses}/data").select(["product", "findings"]).to_pylist()
    found = [(finding, row["product"]) for row in table for finding in row["findings"] if finding["highlight"]]
    found.sort(key=lambda pair: -pair[0]["highlight"]["drop"])
    shown: set[tuple[str, str]] = set()
    print("\nkeyword   score  highlighted word        product")
    for finding, product in found:
        key = (finding["keyword"], finding["score"])
        if key not in shown and len(shown) < rows:
            shown.add(key)
            print(
                f"{_wide(finding['keyword'], 9)} {finding['score']:+d}     "
                f"{_wide('「' + finding['highlight']['word'] + '」', 23)} {product}"
            )


def _wide(text: str, columns: int) -> str:
    """Padded to so many terminal columns: a Hangul syllable takes two."""
    return text + " " * max(1, columns - sum(1 + (ord(c) > 0x1100) for c in text))


if __name__ == "__main__":
    main(Config, run, __doc__)
