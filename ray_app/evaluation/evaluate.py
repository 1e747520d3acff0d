"""How good a bundle is on labelled reviews it has not seen, beside a TF-IDF baseline.

In: a bundle and labels (their test rows where they name any). Out: `report.json`, `report.md`, and the same printed;
`predictions.parquet`, what `judge.predictions` says of every review, so that thresholds can be moved later.
"""

from dataclasses import dataclass
from typing import Any

from ray_app.errors import check
from ray_app.options import Options, as_dict, option


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.evaluate`."""

    bundle: str = option("runs/quickstart/bundle", "bundle that jobs.train wrote", "Data")
    labels: str = option("sample", "labeled reviews as for training; their test rows where they name any", "Data")
    output: str = option("runs/evaluation", "folder for report.json, report.md and predictions.parquet", "Data")
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and say so", "Data", ("fail", "drop"))
    train_labels: str = option(
        "", "labels to train the baseline on; default: the training rows of --labels", "Baseline"
    )
    baseline: bool = option(True, "train and judge the TF-IDF baseline too", "Baseline")
    highlights: bool = option(True, "judge highlights (most of the time this takes)", "Analysis")
    words: str = option("space", "what a word is", "Analysis", ("space", "kiwi"))
    device: str = option("auto", "where the classifiers run", "Analysis", ("auto", "cpu", "cuda"))
    seed: int = option(0, "seed of the random words that highlights are compared with", "Analysis")


def run(config: Config) -> dict[str, Any]:
    """Evaluates, prints, writes; returns the report."""
    from ray_app import storage
    from ray_app.evaluation import report as judge
    from ray_app.inference import bundle
    from ray_app.inference.runtime import BundleRuntime
    from ray_app.labels import reader

    model = bundle.load(config.bundle)
    runtime = BundleRuntime(model, config.device)
    found = reader.read_labels_with(config.labels, model.meta.taxonomy, config.on_bad_label)
    for line in found.dropped:
        print(f"dropped: {line}")
    tested = found.split("test") if len(found.split("test")) else found.table
    check(len(tested), f"{config.labels}: no rows to evaluate on")
    print(f"bundle {model.id} on {len(tested):,} reviews of {config.labels}", flush=True)
    predictions = judge.predictions(runtime, tested)
    report = judge.evaluate_bundle(runtime, tested, predictions)
    report["thresholds"] = dict(zip(model.meta.taxonomy.names, map(float, model.meta.thresholds), strict=True))
    report["scale"] = list(model.meta.taxonomy.scores)
    report["highlights"] = judge.highlights(runtime, tested, config.words, config.seed) if config.highlights else None
    report["baseline"] = _baseline(config, model, found, tested) if config.baseline else None
    report |= {"bundle": model.id, "reviews": len(tested), "config": as_dict(config)}
    text = judge.markdown(report)
    print(text)
    storage.write_json(storage.join(config.output, "report.json"), report)
    storage.write_bytes(storage.join(config.output, "report.md"), text.encode())
    storage.write_parquet(storage.join(config.output, "predictions.parquet"), predictions)
    return report


def _baseline(config: Config, model: Any, found: Any, tested: Any) -> dict[str, Any] | None:
    """The baseline's report, or None where there is nothing to train it on."""
    from ray_app.evaluation import report as judge
    from ray_app.evaluation.baseline import TfidfBaseline
    from ray_app.labels import reader
    from ray_app.labels.hold_out import training_split

    taxonomy = model.meta.taxonomy
    source = (
        reader.read_labels_with(config.train_labels, taxonomy, config.on_bad_label) if config.train_labels else found
    )
    if not config.train_labels and not len(found.split("test")):
        print("no baseline: --labels names no training rows; give some with --train-labels")
        return None
    train, validation = training_split(source, config.train_labels or config.labels)
    baseline = TfidfBaseline(train, validation, taxonomy)
    texts = tested["text"].to_pylist()
    return judge.evaluate_predictions(
        tested, baseline.predict(texts), baseline.score(texts), taxonomy, model.meta.support
    )
