"""How a model is trained: what of a job's options the loop reads. In: a job's config. Out: Settings."""

from dataclasses import dataclass, fields

from ray_app.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is trained. `batch_size` counts rows per optimizer step, over all workers together."""

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    accumulate: int = 1
    clip: float = 1.0
    patience: int = 2
    head_start: float = 1.0  # learning rate of a new head relative to the rest's
    precision: str = "auto"  # of the steps: fp32, bf16, or the device's
    seed: int = 0
    keep_last: bool = False  # keep the last epoch's weights, not the best's; with patience 0


def settings_of(config: TrainingOptions, **changes: object) -> Settings:
    """A job's options by the names of the settings, with changes."""
    given = {field.name: getattr(config, field.name) for field in fields(Settings) if hasattr(config, field.name)}
    return Settings(**{**given, **changes})
