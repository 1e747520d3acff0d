"""Trains a bundle's models on labeled reviews, data-parallel on Ray Train, and seals them into a bundle.

In: labels (see `labels/reader.py`) and a base model. Out: a bundle. Checkpoints and metrics are in the training folder
beside it, from which `--resume` continues after a killed driver.
"""

import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ray_app.errors import check
from ray_app.options import as_dict
from ray_app.training.classifier_options import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from ray_app.data.taxonomy import Taxonomy
    from ray_app.labels.reader import Labels
    from ray_app.storage.lease import Lease
    from ray_app.training.checkpoints import Checkpoints
    from ray_app.training.loop import EpochRow
    from ray_app.training.train_classifier import Trained

__all__ = ["Config", "run"]
DONE = "done.json"
TAUGHT = 300  # labels with words from which attention learns to lie on such words better than masking finds them
CHECKED = 500  # validation reviews that are read once more, to see whether scores read the keyword
log = logging.getLogger(__name__)


class _Finished(TypedDict):
    """`done.json` of a trained classifier: its best epoch, and per keyword the tuned threshold (none of scores)."""

    best: "EpochRow"
    thresholds: list[float]
    commit: NotRequired[str | None]  # of the base model, where it came from the hub


def run(config: Config) -> str:
    """Trains, seals the bundle, prints where it is and returns its id. Raises UserError where the output exists, or
    another run trains there."""
    from ray_app import storage
    from ray_app.storage.lease import Lease
    from ray_app.training.tracking import follower

    follower.check_tracker(config.track)
    config = config.resolved()
    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    with Lease(config.storage) as lease:
        return _run(config, lease)


def _run(config: Config, lease: "Lease") -> str:
    from ray_app import storage
    from ray_app.inference.bundle import models_of
    from ray_app.training import base_checks, checkpoints, provenance, workers
    from ray_app.training.tracking import follower

    taxonomy, train, validation, judged_by = _read(config)
    base_checks.rehearse(config, taxonomy, train["text"].to_pylist())
    models = models_of(config.score_form)
    leftovers = ("metrics.jsonl", "tensorboard", "adapter", *models, "tokenizer")
    read = provenance.inputs_of(config, taxonomy, train, validation)
    checkpoints.claim_folder(config, leftovers, inputs=read)
    began = time.monotonic()
    loop: dict[str, object] = {"config": as_dict(config), "taxonomy": taxonomy.to_dict()}
    with follower.tracked(config.track, config.output, config.storage, as_dict(config)) as tracked:
        workers.launch(work, loop, {"train": train, "validation": validation}, config)
        finished = {name: storage.read_json(_done(config, name)) for name in models}
        lease.check()
        identity = _seal(config, taxonomy, train, validation, finished)
        tracked.note(identity, {name: done["best"] for name, done in finished.items()}, time.monotonic() - began)
    checkpoints.clear_parts(config.storage, (*checkpoints.PARTS, *models, "tokenizer"))
    print(_summary(config, identity, finished, time.monotonic() - began, judged_by))
    if line := _warning(config, validation):
        print(line)
    return identity


def _read(config: Config) -> "tuple[Taxonomy, pa.Table, pa.Table, str]":
    """The taxonomy, the labeled reviews to train and to validate on, and the labels whose test rows judge the bundle,
    "" for none. Raises UserError where one has no label."""
    from ray_app.labels import reader
    from ray_app.labels.hold_out import training_split
    from ray_app.training.partial_labels import with_partial_labels

    labels = reader.read_labels(config.labels, config.taxonomy, config.on_bad_label)
    for line in labels.dropped:
        log.info("dropped: %s", line)
    drawn = bool(config.test) and not len(labels.split("test"))
    labels = _with_test(config, labels) if drawn else labels
    train, validation = training_split(labels, config.labels, config.validation, config.seed, config.limit)
    log.info(
        "%s training and %s validation reviews, %d keywords, %d dropped, base model %s",
        f"{len(train):,}",
        f"{len(validation):,}",
        len(labels.taxonomy.names),
        len(labels.dropped),
        config.base_model,
    )
    for name, table in (("training", train), ("validation", validation)):
        check(any(table["labels"].to_pylist()), f"{config.labels}: none of its {name} reviews has a label")
    _tell_unlabeled(config, train, labels.taxonomy)
    if config.also:
        train = with_partial_labels(train, config.also, labels.taxonomy, config.on_bad_label)
        log.info("%s training reviews with those of %s", f"{len(train):,}", ", ".join(config.also))
    judged_by = _split_labels(config) if drawn else config.labels if len(labels.split("test")) else ""
    if not judged_by:
        log.info("%s names no test rows to judge the bundle by; --test 0.2 keeps some", config.labels)
    return labels.taxonomy, train, validation, judged_by


def _tell_unlabeled(config: Config, train: "pa.Table", taxonomy: "Taxonomy") -> None:
    """A warning that names keywords without a label, which the model learns to find nowhere."""
    from ray_app.labels.matrices import keyword_support

    support = keyword_support(train)
    absent = [name for name in taxonomy.names if not support.get(name)]
    if absent and not config.also:
        log.warning(
            "%s: no training review is labeled with %s: the bundle will not find %s; leave %s out of the taxonomy, or "
            "label some",
            *(config.labels, ", ".join(absent), *(("it", "it") if len(absent) == 1 else ("them", "them"))),
        )


def _with_test(config: Config, labels: "Labels") -> "Labels":
    """The labels with test rows drawn, written where the evaluation finds them."""
    from ray_app import storage
    from ray_app.labels.hold_out import with_test_rows

    labels = replace(labels, table=with_test_rows(labels.table, config.test, config.seed))
    storage.write_parquet(_split_labels(config), labels.table)
    log.info("%s test reviews kept; labels with them: %s", f"{len(labels.split('test')):,}", _split_labels(config))
    return labels


def _split_labels(config: Config) -> str:
    """Where --test leaves the labels with their test rows."""
    from ray_app import storage

    return storage.join(config.storage, "labels.parquet")


def _warning(config: Config, validation: "pa.Table") -> str:
    """One line where the bundle's scores hardly read the keyword, by the mixed reviews among the validation rows."""
    from ray_app.evaluation.mixed_reviews import warning
    from ray_app.evaluation.report import evaluate_mixed
    from ray_app.inference.runtime import BundleRuntime

    device = config.device if config.workers == 0 else "auto"
    return warning(evaluate_mixed(BundleRuntime(config.output, device), validation.slice(0, CHECKED)))


def work(loop: dict[str, Any], tables: dict[str, "pa.Table"], checkpoints: "Checkpoints") -> None:
    """Trains the bundle's models, one after the other, on every worker. A finished one is not trained again.

    `loop`: the config and the taxonomy as plain values. `tables`: `train` and `validation`.
    """
    import torch

    from ray_app import storage
    from ray_app.data.taxonomy import from_dict
    from ray_app.inference.bundle import models_of
    from ray_app.training.loop import Rank
    from ray_app.training.train_classifier import train_classifier

    config, taxonomy = Config(**loop["config"]), from_dict(loop["taxonomy"], "taxonomy")
    torch.manual_seed(config.seed)
    for name in models_of(config.score_form):
        if storage.exists(_done(config, name)):
            continue
        trained = train_classifier(name, config, taxonomy, tables, checkpoints)
        if Rank.current().rank == 0:
            _save(config, taxonomy, trained)


def _done(config: Config, name: str) -> str:
    """The file that makes a trained classifier in the training folder count."""
    from ray_app import storage

    return storage.join(config.storage, name, DONE)


def _save(config: Config, taxonomy: "Taxonomy", trained: "Trained") -> None:
    """Writes a trained classifier into the training folder, and by itself what tuning added to its base; `done.json`
    comes last and makes it count."""
    from ray_app import storage
    from ray_app.engine.base_model import commit_of
    from ray_app.engine.encoder import save_model
    from ray_app.inference.sealing import save_tokenizer
    from ray_app.training.base_checks import way_of
    from ray_app.training.tuning import kept

    with tempfile.TemporaryDirectory() as folder:
        save_model(trained.model, Path(folder) / trained.name, config.weights)
        save_tokenizer(trained.tokenizer, Path(folder) / "tokenizer")
        for part in (trained.name, "tokenizer"):
            storage.upload(str(Path(folder) / part), storage.join(config.storage, part))
    if trained.added is not None:
        folder = storage.join(config.storage, kept.FOLDER, trained.name)
        way, head = way_of(config, trained.name), trained.model.head
        kept.write(folder, way, trained.base, taxonomy, trained.added, head, trained.thresholds)
    best = max(trained.history, key=lambda row: row["select"])
    commit = commit_of(trained.model.encoder)
    storage.write_json(_done(config, trained.name), _Finished(best=best, thresholds=trained.thresholds, commit=commit))


def _seal(
    config: Config, taxonomy: "Taxonomy", train: "pa.Table", validation: "pa.Table", finished: dict[str, _Finished]
) -> str:
    """Training folder -> bundle; returns its id. The bundle appears under its name only when it is whole."""
    from ray_app import storage
    from ray_app.inference import bundle, known_texts, sealing
    from ray_app.labels.matrices import keyword_support
    from ray_app.training import provenance
    from ray_app.training.tuning import kept

    given = train["labels"].to_pylist()
    meta = bundle.BundleMeta(
        taxonomy=taxonomy,
        thresholds=tuple(next(iter(finished.values()))["thresholds"]),
        max_length=config.max_length,
        pooling=config.pooling,
        score_form=config.score_form,
        highlights=_words_by(config, [label["highlights"] for labels in given for label in labels]),
        opinions=_words_by(config, [label["opinions"] for labels in given for label in labels]),
        metrics={name: done["best"] for name, done in finished.items()},
        support=keyword_support(train),
        provenance=_provenance(config, train, validation, finished),
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        for name in (*finished, "tokenizer"):
            storage.download(storage.join(config.storage, name), folder / name, leave=(DONE,))
        meta.provenance["tokenizer_sha256"] = provenance.hash_of_files(folder / "tokenizer")
        texts = [*train["text"].to_pylist(), *validation["text"].to_pylist()]
        known_texts.write(texts, folder, *provenance.begun_as(config, Path(scratch)))
        adapter = storage.join(config.storage, kept.FOLDER)
        if (folder / known_texts.FILE).is_file() and not storage.is_empty(adapter):
            storage.write_bytes(storage.join(adapter, known_texts.FILE), (folder / known_texts.FILE).read_bytes())
        identity = sealing.seal_checked(folder, meta)
        check(storage.is_empty(config.output), f"--output {config.output}: another run wrote it just now")
        storage.upload(str(folder), config.output, last="bundle.json")
    return identity


def _provenance(
    config: Config, train: "pa.Table", validation: "pa.Table", finished: dict[str, _Finished]
) -> dict[str, object]:
    """How the bundle came about; `_seal` adds its tokenizer's hash."""
    from ray_app import __version__
    from ray_app.engine.encoder import base_name
    from ray_app.training import provenance

    return {
        "base_model": base_name(config.base_model),
        "base_commit": next(iter(finished.values())).get("commit"),
        "labels": config.labels,
        "labels_sha256": provenance.hash_of(train, validation),
        "rows": len(train),
        "nunchi": __version__,
        "versions": provenance.versions(),
        "config": as_dict(config),
        "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _words_by(config: Config, words: "Sequence[list[str] | None]") -> str:
    """How the bundle finds words of this kind: by attention where the labels taught it, else by masking."""
    taught = sum(map(bool, words))
    return "attention" if config.score_form != "prompt" and config.evidence and taught >= TAUGHT else "occlusion"


def _summary(config: Config, identity: str, finished: dict[str, _Finished], seconds: float, judged_by: str) -> str:
    """Where the bundle is, how good its classifiers are on validation rows, and what a user does next."""
    from ray_app.cli import next_command

    first, scores = (list(finished.values())[at]["best"] for at in (0, -1))
    f1 = first.get("keywords_f1", first["select"])
    command = (
        next_command("evaluate", bundle=config.output, labels=judged_by)
        if judged_by
        else next_command("analyze", input="YOUR_REVIEWS.parquet", bundle=config.output, output="runs/analyses")
    )
    return (
        f"bundle {identity} in {config.output} after {seconds:.0f} s; on validation rows: keywords micro F1 {f1:.3f}, "
        f"score accuracy {scores['accuracy']:.3f}\nNext: {command}"
    )
