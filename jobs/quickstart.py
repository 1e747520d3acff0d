"""The whole of Nunchi on the shipped sample, offline: analyze a catalog on Ray, evaluate, show findings, train further.

example: python -m jobs.quickstart
cluster: ray job submit --working-dir . -- python -m jobs.quickstart
"""

import time
from dataclasses import dataclass

from ray_app import storage
from ray_app.catalog import analyze
from ray_app.cli import main, next_command
from ray_app.data.rows import FindingRow
from ray_app.evaluation import evaluate
from ray_app.options import Options, option
from ray_app.training import train

READY = "ready"  # the shipped bundle
SHOWN = 8  # reviews with their findings


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.quickstart`."""

    output: str = option(
        "runs/quickstart", "folder to write; what an earlier quickstart left there is replaced", "Data"
    )
    catalog_rows: int = option(400, "rows of the catalog sample to analyze, 0 for all", "Data", least=0)
    training_rows: int = option(400, "labeled reviews to train the shipped bundle further on", "Training", least=1)
    epochs: int = option(1, "passes over them", "Training", least=1)
    workers: int = option(
        0, "Ray Train workers; 0 trains in this process, which is quicker for so little", "Training", least=0
    )


def run(config: Config) -> None:
    """Runs the three steps as a user would, one after the other, and prints where everything lies."""
    began = time.monotonic()
    bundle, analyses, evaluation = (f"{config.output}/{name}" for name in ("bundle", "analyses", "evaluation"))
    for old in (bundle, f"{bundle}.training", analyses, evaluation):
        storage.remove(old)
    print("1/3 analyzing the catalog with the shipped bundle", flush=True)
    analyze.run(_analysis(config, analyses))
    print(f"\n2/3 evaluating it on reviews it has not seen ({time.monotonic() - began:.0f} s)", flush=True)
    evaluate.run(evaluate.Config(bundle=READY, labels="sample", output=evaluation))
    print(f"\n3/3 training it further, as on labels of your own ({time.monotonic() - began:.0f} s)", flush=True)
    train.run(_training(config, bundle))
    _show(analyses)
    report = f"{evaluation}/report.json"
    print(
        f"\n{time.monotonic() - began:.0f} s. Files: {analyses}/data/  {report}  {bundle}/\nNext:\n"
        f"  {next_command('serve', bundle=READY, analyses=analyses, report=report, page=True)}\n"
        f"  {next_command('analyze', input='YOUR_REVIEWS.parquet', bundle=READY, output='runs/mine', dry_run=True)}\n"
        f"  {next_command('train', labels='YOUR_LABELS.csv', base_model=READY, output='runs/bundle')}\n"
    )


def _training(config: Config, bundle: str) -> train.Config:
    return train.Config(
        labels="sample",
        limit=config.training_rows,
        output=bundle,
        base_model=READY,
        epochs=config.epochs,
        workers=config.workers,
        patience=0,
    )


def _analysis(config: Config, analyses: str) -> analyze.Config:
    return analyze.Config(
        input="sample",
        bundle=READY,
        output=analyses,
        limit=config.catalog_rows,
        keep=("text", "product", "mall", "category", "rating", "created_at"),
        unit_rows=100,
        progress_seconds=10,
        placement="fused",  # on Ray, as a catalog of any size would be
    )


def _show(analyses: str) -> None:
    """A few real reviews with their findings: those with most keywords, of different products."""
    table = storage.read_parquet(f"{analyses}/data").select(["product", "text", "findings"]).to_pylist()
    short = [row for row in table if len(row["text"]) <= 60 and len(row["text"].split()) >= 4]
    short.sort(key=lambda row: -sum(f["highlight"]["drop"] > 0.3 for f in row["findings"] if f["highlight"]))
    best = {row["product"]: row for row in reversed(short)}  # the best of each product
    for row in [row for row in short if best[row["product"]] is row][:SHOWN]:
        clear = [f for f in row["findings"] if f["highlight"] and f["highlight"]["drop"] > 0.1]
        words = " · ".join(f"{f['keyword']} {f['score']:+d} 「{_words(f)}」" for f in clear)
        print(f"\n{row['product']}: {row['text']}\n    -> {words}")


def _words(finding: FindingRow) -> str:
    """The word that names the keyword, and the one that says the feeling where that is another."""
    words = [word["word"] for word in (finding["highlight"], finding.get("opinion")) if word]
    return " ".join(dict.fromkeys(words))


if __name__ == "__main__":
    main(Config, run, __doc__)
