"""How good a bundle is on labeled reviews that it was not trained or tuned on, beside a TF-IDF baseline.

In: a bundle and labels (their test rows where they name any). Out: `report.json`, `report.md`, and the same printed;
`predictions.parquet`, the probabilities and labels of every review, so that thresholds can be moved later.
"""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from ray_app.errors import UserError, check
from ray_app.options import SEEDS, Options, as_dict, option

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_app.evaluation.report import EvaluationReport, PredictionReport
    from ray_app.evaluation.word_report import WordReports
    from ray_app.inference.bundle import Bundle, BundleMeta
    from ray_app.inference.runtime import BundleRuntime
    from ray_app.labels.reader import Labels

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Options of `jobs.evaluate`."""

    bundle: str = option("ready", "bundle that jobs.train wrote; ready is the shipped one", "Data")
    labels: str = option("sample", "labeled reviews as for training; their test rows where they name any", "Data")
    output: str = option("runs/evaluation", "folder for report.json, report.md and predictions.parquet", "Data")
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and report it", "Data", ("fail", "drop"))
    train_labels: str = option(
        "", "labels to train the baseline on; default: the training rows of --labels", "Baseline"
    )
    baseline: bool = option(True, "train and judge the TF-IDF baseline too", "Baseline")
    highlights: bool = option(True, "judge highlights and opinions (takes most of the time)", "Analysis")
    compare_highlights: bool = option(
        False, "also compare the ways to find highlights: hit rate, agreement with exact, speed", "Analysis"
    )
    words: str = option("space", "what a word is", "Analysis", ("space", "kiwi"))
    device: str = option("auto", "where the classifiers run", "Analysis", ("auto", "cpu", "cuda"))
    seed: int = option(0, "seed of the random words beside highlights", "Analysis", least=0, below=SEEDS)


def run(config: Config) -> "EvaluationReport":
    """Evaluates, prints, writes; returns the report."""
    from ray_app import storage
    from ray_app.evaluation.mixed_reviews import warning
    from ray_app.evaluation.report import evaluate_bundle, markdown, predictions
    from ray_app.inference import bundle, bundle_names
    from ray_app.inference.runtime import BundleRuntime
    from ray_app.labels import reader

    config = replace(config, bundle=bundle_names.pinned(config.bundle))
    loaded = bundle.load(config.bundle)
    meta, runtime = loaded.meta, BundleRuntime(loaded, config.device)
    labels = reader.read_labels_with(config.labels, meta.taxonomy, config.on_bad_label)
    for line in labels.dropped:
        log.info("dropped: %s", line)
    test = labels.split("test")
    given = test if len(test) else labels.table
    check(len(given), f"{config.labels}: no rows to evaluate on")
    tested, left_out = _unseen(config, loaded, given)
    log.info("bundle %s on %s reviews of %s", loaded.id, f"{len(tested):,}", config.labels)
    predicted = predictions(runtime, tested)
    report: EvaluationReport = {
        **evaluate_bundle(runtime, tested, predicted),
        "thresholds": dict(zip(meta.taxonomy.names, map(float, meta.thresholds), strict=True)),
        "scale": list(meta.taxonomy.scores),
        **_judged_words(config, runtime, tested),
        **_judged_baseline(config, meta, labels, tested),
        "bundle": loaded.id,
        "reviews": len(tested),
        "left_out": left_out,
        "config": as_dict(config),
    }
    text = markdown(report)
    storage.write_parquet(storage.join(config.output, "predictions.parquet"), predicted)
    storage.write_bytes(storage.join(config.output, "report.md"), text.encode())
    storage.write_json(storage.join(config.output, "report.json"), report)  # last: what programs read is complete
    print(f"{text}\n{_summary(config, report)}")
    if line := warning(report["scores"]["mixed"]):
        print(line)
    return report


def _judged_words(config: Config, runtime: "BundleRuntime", tested: "pa.Table") -> "WordReports":
    """The sections about the words of findings; None where they are not to be judged."""
    from ray_app.evaluation.word_report import WordJudge

    if not config.highlights:
        return {"highlights": None, "opinions": None}
    judge = WordJudge(runtime, tested, config.words, config.seed)
    highlights = judge.highlights()
    if config.compare_highlights:
        highlights["modes"] = judge.modes()
    return {"highlights": highlights, "opinions": judge.opinions()}


def _summary(config: Config, report: "EvaluationReport") -> str:
    """Where the report lies, one figure of it, and what a user would do next."""
    from ray_app.cli import next_command

    quality = f"tuples F1 {report['tuples']['micro']['f1']:.3f} on {report['reviews']:,} reviews"
    command = next_command("analyze", input="YOUR_REVIEWS.parquet", bundle=config.bundle, output="runs/analyses")
    return f"report.json, report.md and predictions.parquet in {config.output}: {quality}\nNext: {command}"


def _unseen(config: Config, bundle: "Bundle", given: "pa.Table") -> "tuple[pa.Table, int | None]":
    """The rows whose texts the bundle was not trained or tuned on, and how many others were left out; None where the
    bundle does not say. Raises UserError where nothing is left."""
    import pyarrow as pa

    from ray_app.inference.known_texts import known

    seen = known(given["text"].to_pylist(), bundle.path)
    if seen is None:
        log.warning("bundle %s does not say what it was trained on: some of these reviews may be among it", bundle.id)
        return given, None
    count = int(seen.sum())
    check(
        count < len(given),
        f"{config.labels}: the bundle was trained or tuned on every one of its {len(given):,} reviews, so nothing is "
        "left to judge it by; name others, or train with --test 0.2",
    )
    if count:
        log.warning("%s of %s reviews left out: the bundle was trained or tuned on them", f"{count:,}", len(given))
    return given.filter(pa.array(~seen)), count


class _Baseline(TypedDict):
    """The baseline's part of the report."""

    baseline: "PredictionReport | None"
    no_baseline: str


def _judged_baseline(config: Config, meta: "BundleMeta", labels: "Labels", tested: "pa.Table") -> _Baseline:
    """The baseline's report, or why there is none."""
    if not config.baseline:
        return {"baseline": None, "no_baseline": "--no-baseline"}
    try:
        return {"baseline": _baseline(config, meta, labels, tested), "no_baseline": ""}
    except UserError as error:
        log.warning("no baseline: %s", error)
        return {"baseline": None, "no_baseline": str(error)}


def _baseline(config: Config, meta: "BundleMeta", labels: "Labels", tested: "pa.Table") -> "PredictionReport":
    """The baseline's report. Raises UserError where there is nothing to train it on."""
    from ray_app.evaluation.baseline import TfidfBaseline
    from ray_app.evaluation.report import evaluate_predictions
    from ray_app.labels import reader
    from ray_app.labels.hold_out import training_split

    source = labels
    if config.train_labels:
        source = reader.read_labels_with(config.train_labels, meta.taxonomy, config.on_bad_label)
    else:
        check(len(labels.split("test")), "--labels names no training rows; give some with --train-labels")
    train, validation = training_split(source, config.train_labels or config.labels)
    baseline = TfidfBaseline(train, validation, meta.taxonomy)
    texts = tested["text"].to_pylist()
    return evaluate_predictions(tested, baseline.predict(texts), baseline.score(texts), meta.taxonomy, meta.support)
