"""How the bundle of a fold is trained: by `jobs.train`'s own code, in the process that calls.

In: a base model, other options of `jobs.train`, labeled rows. Out: the trained bundle, loaded.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_app import storage
from ray_app.cli import read_options
from ray_app.data.taxonomy import Taxonomy, dump
from ray_app.errors import UserError
from ray_app.inference import bundle_names
from ray_app.inference.runtime import BundleRuntime
from ray_app.training import train


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """Base model, device, and other options of `jobs.train`; `cpus` is what the training of one fold reserves."""

    base_model: str
    options: dict[str, Any]
    device: str = "auto"
    cpus: float = 1.0

    def bundle(self, train_rows: pa.Table, taxonomy: Taxonomy, folder: Path) -> BundleRuntime:
        """Trains a bundle in `folder`, an existing empty one, and loads it."""
        (folder / "taxonomy.yaml").write_text(dump(taxonomy), encoding="utf-8")
        storage.write_parquet(str(folder / "labels.parquet"), train_rows)
        with contextlib.redirect_stdout(io.StringIO()):  # a job's summary of a folder that the user never sees
            train.run(self.config(folder))
        return BundleRuntime(f"{folder}/bundle", self.device)

    def config(self, folder: Path) -> train.Config:
        """The training's config: what depends on the fold wins over `options`. Raises UserError at a bad value."""
        own = {
            "labels": f"{folder}/labels.parquet",
            "taxonomy": f"{folder}/taxonomy.yaml",
            "output": f"{folder}/bundle",
            "storage_path": "",
            "base_model": self.base_model,
            "device": self.device,
            "workers": 0,
        }
        return train.Config(**{**self.options, **own})


def read_fold_training(base_model: str, train_config: str, device: str, cpus: float = 1.0) -> FoldTraining:
    """A FoldTraining with the options of the YAML file `train_config`, "" for none.

    The file is read here, as a Ray task on another node may not see it. Raises UserError naming the file and option.
    """
    options: dict[str, Any] = {}
    if train_config:
        text = storage.read_bytes(train_config).decode()
        options = read_options(train.Config, text, f"--train-config {train_config}")
    if base_model.startswith("hf://"):  # every fold of the same commit
        base_model = bundle_names.pinned_base(base_model)
    training = FoldTraining(base_model=base_model, options=options, device=device, cpus=cpus)
    try:
        training.config(Path())
    except UserError as error:  # now, not after the first fold was started
        raise UserError(f"--train-config {train_config}: {error}") from None
    return training
