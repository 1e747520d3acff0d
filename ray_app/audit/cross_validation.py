"""K-fold cross-validation: predictions for every review by a model that did not train on it.

In: labeled reviews. Out: the OutOfFold of all of them. TF-IDF models train in this process; bundles train as Ray tasks,
as many at once as fit. Only steps call this.
"""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from sklearn.model_selection import GroupKFold

from ray_app import cluster, storage
from ray_app.arrays import Flags, Ints
from ray_app.audit import out_of_fold
from ray_app.audit.fold_training import FoldTraining
from ray_app.audit.out_of_fold import OutOfFold
from ray_app.data.near_duplicates import group_near_duplicates
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.labels.matrices import score_pairs

if TYPE_CHECKING:
    from ray import ObjectRef

log = logging.getLogger(__name__)

Fold = tuple[pa.Table, pa.Table]  # rows to train on, rows held out


def out_of_fold_predictions(
    table: pa.Table, taxonomy: Taxonomy, count: int, seed: int, training: FoldTraining | None, cache: str
) -> OutOfFold:
    """Predictions for every row of `table` by a model that did not train on it.

    Args:
        count: number of folds; near-identical texts share one.
        training: how bundles are trained; None trains TF-IDF models, in this process and without Ray.
        cache: folder for the predictions of finished folds, with which an interrupted call resumes.
    """
    numbers = assign_folds(table["text"].to_pylist(), count, seed)
    folds = [(_rows(table, numbers != number), _rows(table, numbers == number)) for number in range(count)]
    if training is None:
        predictions = [
            out_of_fold.from_baseline(TfidfBaseline(train, None, taxonomy), held_out) for train, held_out in folds
        ]
    else:
        predictions = _train_on_ray(folds, taxonomy, training, cache)
    return out_of_fold.join(predictions, numbers, score_pairs(table, taxonomy)[0])


def assign_folds(texts: Sequence[str], count: int, seed: int) -> Ints:
    """[texts] the fold of each, a number below `count`: folds are random, of about equal size, and near-identical
    texts share one.

    Raises UserError where there are fewer different texts than folds.
    """
    groups = group_near_duplicates(texts)
    different = len(np.unique(groups))
    check(count >= 2, f"--folds {count}: at least 2")
    check(different >= count, f"--folds {count}: there are only {different} different texts")
    fold = np.zeros(len(texts), np.int64)
    split = GroupKFold(count, shuffle=True, random_state=seed).split(np.zeros(len(texts)), groups=groups)
    for number, (_, held_out) in enumerate(split):
        fold[held_out] = number
    return fold


def _rows(table: pa.Table, chosen: Flags) -> pa.Table:
    return table.take(pa.array(np.flatnonzero(chosen)))


def _train_on_ray(folds: Sequence[Fold], taxonomy: Taxonomy, training: FoldTraining, cache: str) -> list[OutOfFold]:
    """One Ray task per fold that is not in the cache yet."""
    import ray

    key = _cache_key(folds, taxonomy, training)
    uris = [storage.join(cache, f"{key}-{number}.npz") for number in range(len(folds))]
    missing = [number for number, uri in enumerate(uris) if not storage.exists(uri)]
    if missing:
        cluster.start()
        gpus = int(cluster.wants_gpu(training.device))
        available = cluster.cpus()
        fits = training.cpus <= available or cluster.joined()  # one that was joined may grow
        check(fits, f"--cpus-per-fold {training.cpus:g}: the cluster has {available:g} CPUs")
        task = ray.remote(num_cpus=training.cpus, num_gpus=gpus, max_retries=2)(_train_and_predict)
        _collect({task.remote(training, *folds[number], taxonomy): number for number in missing}, uris)
    return [out_of_fold.from_bytes(storage.read_bytes(uri)) for uri in uris]


def _collect(tasks: Mapping["ObjectRef[bytes]", int], uris: Sequence[str]) -> None:
    """Writes each fold's predictions to its URI as soon as its task ends."""
    import ray

    began, pending = time.monotonic(), list(tasks)
    while pending:
        (ready,), pending = ray.wait(pending)
        fold = tasks[ready]
        try:
            storage.write_bytes(uris[fold], ray.get(ready))
        except ray.exceptions.RayError as error:
            raise UserError(f"fold {fold + 1}: {cluster.cause(error)}; run the same command to resume") from error
        done = len(tasks) - len(pending)
        log.info("fold %d done, %d of %d, %.0f s", fold + 1, done, len(tasks), time.monotonic() - began)


def _train_and_predict(training: FoldTraining, train: pa.Table, held_out: pa.Table, taxonomy: Taxonomy) -> bytes:
    """A Ray task: trains a bundle on `train`; returns its predictions for `held_out` (see `out_of_fold.to_bytes`)."""
    import torch

    torch.set_num_threads(max(1, round(training.cpus)))
    with tempfile.TemporaryDirectory() as folder:
        runtime = training.bundle(train, taxonomy, Path(folder))
        return out_of_fold.to_bytes(out_of_fold.from_bundle(runtime, held_out))


def _cache_key(folds: Sequence[Fold], taxonomy: Taxonomy, training: FoldTraining) -> str:
    """The same for the same labels, folds and training options."""
    rows = [held_out.to_pylist() for _, held_out in folds]
    content = [training.base_model, training.options, taxonomy.to_dict(), rows]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, default=str).encode()).hexdigest()[:12]
