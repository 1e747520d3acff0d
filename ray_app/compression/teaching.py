"""From a teacher's bundle to a student's, without the gate: the cut, the lessons, the training, the tuning.

In: a bundle of the joint form, options, labels. Out: the folder of a student's bundle, not sealed yet, and its meta.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch

from ray_app import __version__
from ray_app.arrays import evenly
from ray_app.compression.distil_options import DistilConfig
from ray_app.compression.slicing import MEASURED, check_sliceable, sliced
from ray_app.compression.student_task import StudentTask, Weights
from ray_app.compression.targets import Lessons, drawn_reviews, lessons
from ray_app.data import reviews
from ray_app.engine.device import Device, choose_device, trains_in_bf16
from ray_app.engine.encoder import load_keyword_scorer, save_model
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check
from ray_app.inference import known_texts
from ray_app.inference.bundle import Bundle, BundleMeta
from ray_app.labels.hold_out import training_split
from ray_app.labels.reader import Labels
from ray_app.options import as_dict
from ray_app.training import calibration
from ray_app.training.checkpoints import Checkpoints, LocalCheckpoints, claim_folder
from ray_app.training.keyword_scores import KeywordScoreTask, keyword_score_task
from ray_app.training.loop import EpochRow, train_model
from ray_app.training.provenance import hash_of, told_apart
from ray_app.training.settings import Settings

FEW = 50  # reviews that are too few to teach anything
log = logging.getLogger(__name__)


def taught(config: DistilConfig, teacher: Bundle, labels: Labels, folder: Path) -> BundleMeta:
    """Makes the student and writes its folder; returns its meta. Each pass leaves a checkpoint in the training folder,
    from which `--resume` goes on; the teacher reads once more then, as it says the same again."""
    torch.manual_seed(config.seed)
    train, validation = training_split(labels, config.labels, seed=config.seed)
    texts = lesson_texts(config, labels, train)
    device, tokenizer = choose_device(config.device), Tokenizer.load(teacher.path / "tokenizer")
    model = load_keyword_scorer(teacher.path / "joint", dropout=0.0)
    model.batching = teacher.meta.batching
    check_sliceable(model, f"--bundle {config.bundle}", config.layers, config.intermediate)
    inputs = {
        "--bundle": teacher.id,
        "--labels": hash_of(train, validation),
        "--input": told_apart(*texts),
    }
    claim_folder(config, ("metrics.jsonl", "tensorboard"), config.judging, inputs)
    sequences = drawn_reviews(texts, tokenizer, teacher.meta.max_length, config.join, config.seed)
    student = begun(model, config, sequences, tokenizer.pad_id)
    log.info("%s reviews, %s tokens: the teacher reads them", f"{len(sequences):,}", f"{len(sequences.ids):,}")
    learned = lessons(model, sequences, tokenizer.pad_id, device, trains_in_bf16(config.precision, device))
    by = judge(validation, teacher.meta, tokenizer)
    history, thresholds = teach(student, learned, by, config, device, LocalCheckpoints(config.storage))
    save_model(student, folder / "joint", config.weights)
    shutil.copytree(teacher.path / "tokenizer", folder / "tokenizer")
    known_texts.write([*texts, *validation["text"].to_pylist()], folder, teacher.path)
    return replace(
        teacher.meta,
        thresholds=tuple(thresholds),
        metrics={"joint": max(history, key=lambda row: row["select"])},
        provenance={
            "teacher": teacher.id,
            "made": "distil",
            "reviews": len(sequences),
            "nunchi": __version__,
            "config": as_dict(config),
            "of": teacher.meta.provenance,
        },
    )


def lesson_texts(config: DistilConfig, labels: Labels, train: pa.Table) -> list[str]:
    """Distinct texts that teach: of the input, and of the labels' training rows; none that is held out."""
    given = reviews.sampled_texts(config.input, config.columns, config.limit)
    distinct = list(dict.fromkeys([*train["text"].to_pylist(), *given]))
    own = set(known_texts.hashes(train["text"].to_pylist()).tolist())
    others = set(known_texts.hashes(labels.table["text"].to_pylist()).tolist()) - own
    kept = [
        text for text, code in zip(distinct, known_texts.hashes(distinct).tolist(), strict=True) if code not in others
    ]
    if len(kept) < len(distinct):
        log.warning("%d reviews left out: they are among the rows that measure", len(distinct) - len(kept))
    check(len(kept) >= FEW, f"--input {config.input}: {len(kept)} reviews to learn from; {FEW} are needed")
    return kept


def begun(teacher: KeywordScorer, config: DistilConfig, sequences: Sequences, pad_id: int) -> KeywordScorer:
    """What the student begins as; importance is measured on some of the reviews, evenly drawn."""
    measured = sequences.take(evenly(len(sequences), MEASURED))
    return sliced(teacher, config.layers, config.intermediate, measured, pad_id)


def judge(validation: pa.Table, meta: BundleMeta, tokenizer: Tokenizer) -> KeywordScoreTask:
    """What a student is selected and tuned by: labeled validation rows."""
    given = (validation, validation, meta.taxonomy, tokenizer, meta.max_length)
    return keyword_score_task(*given, balance=0.0, evidence=0.0, join=0.0, seed=0, finds=True)


def teach(
    student: KeywordScorer,
    learned: Lessons,
    by: KeywordScoreTask,
    config: DistilConfig,
    device: Device,
    checkpoints: Checkpoints,
) -> tuple[list[EpochRow], list[float]]:
    """Trains the student in place, from its last checkpoint where there is one, then calibrates its scores; returns its
    epochs, and a threshold per keyword."""
    weights = Weights(scores=config.scores, attention=config.attention, states=config.states)
    task = StudentTask(lessons=learned, judge=by, weights=weights, pad_id=by.tokenizer.pad_id)
    settings = Settings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        precision=config.precision,
        patience=0,
        seed=config.seed,
    )
    report, resume = checkpoints.reporter(task.name), checkpoints.resume(task.name)
    history = train_model(student, task, settings, report, resume, config.device, checkpoints.say)
    thresholds = by.thresholds(student, device)
    calibration.apply(student.head.out, *calibration.fit(*by.validation_scores(student, device)))
    return history, thresholds
