"""What distilling is told: the options of `jobs.compress distil`.

In: flags. Out: checked values."""

from dataclasses import dataclass, fields

from ray_app.compression.gate import GateOptions
from ray_app.options import option
from ray_app.training.options import track_option


@dataclass(frozen=True, kw_only=True)
class DistilConfig(GateOptions):
    """Options of `jobs.compress distil`."""

    bundle: str = option("ready", "bundle of the joint form to make smaller", "Data", common=True)
    input: str = option("sample", "unlabeled reviews that teach, as jobs.analyze reads them", "Data", common=True)
    columns: str = option("", "column names, where they are not recognized: text=NAME", "Data")
    labels: str = option(
        "sample",
        "labels: the texts of their training rows teach too, their validation rows choose the pass, tune thresholds "
        "and calibrate, their test rows judge",
        "Data",
        common=True,
    )
    output: str = option("runs/student", "bundle to write; must not exist", "Data", common=True)
    limit: int = option(20_000, "reviews of the input that teach, at most; each is kept in memory", "Data", least=1)
    layers: int = option(4, "encoder layers of the student, 0 for all", "Student", least=0, common=True)
    intermediate: int = option(
        0, "width of its feed-forward layers, 0 for the teacher's", "Student", least=0, common=True
    )
    join: float = option(
        0.3,
        "reviews joined out of two that teach too, as a share of all: feelings are mixed in them",
        "Training",
        least=0,
    )
    epochs: int = option(5, "passes over the reviews", "Training", least=1, common=True)
    batch_size: int = option(32, "reviews per optimizer step", "Training", least=1)
    learning_rate: float = option(4e-4, "peak learning rate", "Training", above=0)
    scores: float = option(1.0, "weight of the scores' distribution", "Training", least=0)
    attention: float = option(0.3, "weight of where the keywords look", "Training", least=0)
    states: float = option(10.0, "weight of the token states", "Training", least=0)
    precision: str = option(
        "auto",
        "arithmetic of the products; auto is bf16 on GPUs that have it; on CPUs without bf16 products bf16 is slow",
        "Training",
        ("auto", "fp32", "bf16"),
    )
    weights: str = option(
        "int8",
        "how an encoder's weights lie in the bundle; int8 takes a quarter of the room, int4 an eighth; both "
        "are expanded at load",
        "Student",
        ("fp32", "int8", "int4"),
    )
    track: str = track_option()
    seed: int = option(0, "seed of everything random", "Training")
    resume: bool = option(
        False, "resume an interrupted run with the same output from its last pass", "Training", common=True
    )

    @property
    def storage(self) -> str:
        """The training folder: the checkpoint of the last pass, and metrics."""
        return self.output.rstrip("/") + ".training"

    @property
    def judging(self) -> tuple[str, ...]:
        """Options that change nothing of what is taught: an interrupted run is resumed with others."""
        return ("track", *(field.name for field in fields(self) if field.metadata["group"] == "Gate"))
