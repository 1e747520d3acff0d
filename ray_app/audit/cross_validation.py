"""Every review seen by a model that did not learn from it: K folds, in this process or as Ray tasks side by side.

In: labelled reviews. Out: the View of all of them. Called by steps alone.
"""

import hashlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import GroupKFold

from ray_app import cluster, storage
from ray_app.arrays import Ints
from ray_app.audit import out_of_fold
from ray_app.audit.out_of_fold import OutOfFold
from ray_app.data.near_duplicates import group_near_duplicates
from ray_app.data.taxonomy import Taxonomy, dump
from ray_app.errors import UserError, check
from ray_app.evaluation.baseline import TfidfBaseline
from ray_app.inference.runtime import BundleRuntime
from ray_app.labels.matrices import score_pairs
from ray_app.training import train


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """How a fold's bundle is trained: from which base model, with what other options of `jobs.train`, where."""

    base_model: str
    options: dict[str, Any]
    device: str = "auto"
    cpus: float = 1.0

    def bundle(self, train_rows: pa.Table, taxonomy: Taxonomy, folder: Path) -> BundleRuntime:
        """Trains in this process; what is read later lies in `folder`."""
        (folder / "taxonomy.yaml").write_text(dump(taxonomy), encoding="utf-8")
        storage.write_parquet(str(folder / "labels.parquet"), train_rows)
        own = {
            "labels": f"{folder}/labels.parquet",
            "taxonomy": f"{folder}/taxonomy.yaml",
            "output": f"{folder}/bundle",
            "base_model": self.base_model,
            "device": self.device,
            "workers": 0,
        }
        train.run(train.Config(**{**self.options, **own}))
        return BundleRuntime(f"{folder}/bundle", self.device)


def out_of_fold_predictions(
    table: pa.Table, taxonomy: Taxonomy, count: int, seed: int, recipe: FoldTraining | None, keep: str, say: Any = print
) -> OutOfFold:
    """What models that did not learn from a review think of it, for every row of `table`.

    Args:
        count: folds; near-identical texts share one.
        recipe: None judges by TF-IDF, in this process and without Ray.
        keep: folder for the views of finished folds: the same call goes on there after it was killed.
    """
    fold = folds(table["text"].to_pylist(), count, seed)
    pairs = [(_rows(table, fold != number), _rows(table, fold == number)) for number in range(count)]
    if recipe is None:
        found = [out_of_fold.of_baseline(TfidfBaseline(seen, None, taxonomy), held) for seen, held in pairs]
    else:
        found = _on_ray(pairs, taxonomy, recipe, keep, say)
    return out_of_fold.join(found, fold, score_pairs(table, taxonomy)[0])


def _rows(table: pa.Table, chosen: Any) -> pa.Table:
    return table.take(pa.array(np.flatnonzero(chosen)))


def _on_ray(
    pairs: Sequence[tuple[pa.Table, pa.Table]], taxonomy: Taxonomy, recipe: FoldTraining, keep: str, say: Any
) -> list[OutOfFold]:
    """A task a fold, as many at once as there is room for."""
    import ray

    key = _key(pairs, taxonomy, recipe)
    kept = [storage.join(keep, f"{key}-{number}.npz") for number in range(len(pairs))]
    missing = [number for number, uri in enumerate(kept) if not storage.exists(uri)]
    if missing:
        cluster.start()
        gpus = int(cluster.wants_gpu(recipe.device))
        room = cluster.cpus()
        check(recipe.cpus <= room, f"--cpus-per-fold {recipe.cpus:g}: the cluster has {room:g} CPUs")
        task = ray.remote(num_cpus=recipe.cpus, num_gpus=gpus, max_retries=2)(_learn_and_look)
        _collect({task.remote(recipe, *pairs[number], taxonomy): number for number in missing}, kept, say)
    return [out_of_fold.from_arrays(np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)) for uri in kept]


def _collect(asked: dict[Any, int], kept: Sequence[str], say: Any) -> None:
    """Keeps each fold's view as soon as it is there."""
    import ray

    began, left = time.monotonic(), list(asked)
    while left:
        (ready,), left = ray.wait(left)
        fold = asked[ready]
        try:
            storage.write_bytes(kept[fold], ray.get(ready))
        except ray.exceptions.RayError as error:
            raise UserError(f"fold {fold + 1}: {cluster.cause(error)}; the same command goes on") from error
        say(f"fold {fold + 1} done, {len(asked) - len(left)} of {len(asked)}, {time.monotonic() - began:.0f} s")


def _learn_and_look(recipe: FoldTraining, seen: pa.Table, held: pa.Table, taxonomy: Taxonomy) -> bytes:
    """A Ray task: trains a bundle on `seen`; what it thinks of `held` as npz bytes."""
    import torch

    torch.set_num_threads(max(1, round(recipe.cpus)))
    with tempfile.TemporaryDirectory() as folder:
        view = out_of_fold.of_bundle(recipe.bundle(seen, taxonomy, Path(folder)), held)
    sink = io.BytesIO()
    np.savez_compressed(sink, **out_of_fold.to_arrays(view))
    return sink.getvalue()


def _key(pairs: Sequence[tuple[pa.Table, pa.Table]], taxonomy: Taxonomy, recipe: FoldTraining) -> str:
    """The same for the same labels, folds and training options."""
    rows = [held.to_pylist() for _, held in pairs]
    content = [recipe.base_model, recipe.options, taxonomy.to_dict(), rows]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, default=str).encode()).hexdigest()[:12]


def folds(texts: Sequence[str], count: int, seed: int) -> Ints:
    """[texts] numbers below `count`: random groups of near-identical texts, folds of about equal size.

    Raises UserError where there are fewer different texts than folds.
    """
    groups = group_near_duplicates(texts)
    different = len(np.unique(groups))
    check(count >= 2, f"--folds {count}: at least 2")
    check(different >= count, f"--folds {count}: there are only {different} different texts")
    fold = np.zeros(len(texts), np.int64)
    split = GroupKFold(count, shuffle=True, random_state=seed).split(np.zeros(len(texts)), groups=groups)
    for number, (_, held) in enumerate(split):
        fold[held] = number
    return fold
