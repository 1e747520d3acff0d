"""Options that every training job shares: of classifiers and of language models. In: flags. Out: checked values."""

from dataclasses import dataclass

from ray_app import storage
from ray_app.options import SEEDS, Options, option

TRACKERS = ("off", "wandb", "mlflow", "trackio", "tensorboard")


def begun_with(folder: str, resume: bool, name: str) -> str:
    """What the interrupted run in a training folder, which `resume` goes on with, was told as this option; "" for a new
    run."""
    saved = storage.join(storage.absolute(folder), "config.json")
    return str(storage.read_json(saved).get(name, "")) if resume and storage.exists(saved) else ""


def track_option() -> str:
    """The option of every job that trains with epochs."""
    given: str = option(
        "off",
        "also log config, epochs and the final report to a tracker; without a key or server it stays on this machine",
        "Training",
        TRACKERS,
    )
    return given


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Options of both `jobs.train` and `jobs.train_lm`."""

    output: str
    validation: float = option(
        0.1, "share of rows held out where the labels name no validation rows", "Data", above=0, below=1
    )
    limit: int = option(0, "train on this many rows only, drawn by the seed; 0 for all", "Data", least=0)
    max_length: int = option(256, "tokens of a row that are read; longer rows are cut", "Model", least=16)
    batch_size: int = option(32, "rows per optimizer step, over all workers together", "Training", least=1, common=True)
    accumulate: int = option(1, "pieces that a worker's batch is split into, to save memory", "Training", least=1)
    clip: float = option(1.0, "largest gradient norm", "Training", above=0)
    precision: str = option(
        "auto",
        "arithmetic of training steps; bf16 pays on GPUs and on CPUs with bf16 products; auto is bf16 on such GPUs",
        "Training",
        ("auto", "fp32", "bf16"),
    )
    patience: int = option(2, "stop after this many epochs without gain, 0 for never", "Training", least=0)
    track: str = track_option()
    seed: int = option(0, "seed of everything random", "Training", least=0, below=SEEDS)
    workers: int = option(
        1, "training processes; 0 trains in this process, without Ray", "Cluster", least=0, common=True
    )
    device: str = option("auto", "where to train", "Cluster", ("auto", "cpu", "cuda"))
    cpus_per_worker: float = option(0.0, "CPUs a worker reserves, 0 for an equal share", "Cluster", least=0)
    storage_path: str = option(
        "", "folder or s3:// for checkpoints, reachable by all workers; default: OUTPUT.training", "Cluster"
    )
    max_failures: int = option(2, "how often killed workers are restarted", "Cluster", least=-1)
    resume: bool = option(False, "resume an interrupted run with the same output", "Cluster", common=True)

    @property
    def storage(self) -> str:
        """The training folder: checkpoints, metrics and finished models while training."""
        return self.storage_path or self.output.rstrip("/") + ".training"
