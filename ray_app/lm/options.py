"""What training a language model is told: the options of `jobs.train_lm`."""

from dataclasses import dataclass, replace
from pathlib import Path

from ray_app.errors import check
from ray_app.lm import adapters
from ray_app.options import REQUIRED, flag, option
from ray_app.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train_lm`."""

    base_model: str = option(REQUIRED, "causal LM: a Hugging Face name, a folder, or scratch", "Model")
    task: str = option(
        "review", "entry of the templates: review, interview, review_evidence, or one of your own", "Data", common=True
    )
    labels: str = option(
        "sample",
        "labeled reviews, or rows of another task: Parquet, JSONL, CSV/TSV, a folder of them, or sample",
        "Data",
        common=True,
        formerly=("data",),
    )
    output: str = option("runs/lm", "model folder to write; must not exist", "Data", common=True)
    templates: str = option("", "YAML file of templates; default: the shipped ones", "Data")
    columns: str = option("", "FIELD=COLUMN,… where columns have other names than the template's fields", "Data")
    taxonomy: str = option("default", "of labeled reviews: default, labels (what they name) or a YAML file", "Data")
    on_bad_row: str = option("fail", "stop at a bad row, or drop it and report it", "Data", ("fail", "drop"))
    layers: int = option(3, "layers, with scratch", "Model", least=1)
    hidden: int = option(128, "width, with scratch", "Model", least=64)
    vocabulary: int = option(
        0, "vocabulary size, with scratch; 0 for one per 50 characters, 600 to 2,000", "Model", least=0
    )
    tune: str = option(
        "",
        "what trains; adapters are merged at the end, virtual tokens lie beside the weights; default: full",
        "Model",
        ("", *adapters.KINDS, *adapters.VIRTUAL),
    )
    lora: int = option(0, "rank of LoRA and DoRA adapters, 0 for 8; alone it means --tune lora", "Model", least=0)
    virtual_tokens: int = option(
        0, "of prefix, prompt and p-tuning, 0 for 16; they are among those of --max-length", "Model", least=0
    )
    loss_on: str = option("answer", "what the loss covers: answer, or all (prompt too)", "Training", ("answer", "all"))
    epochs: int = option(
        0,
        "passes over the rows; 0 for 5, with scratch for 25,000 rows in total if that is more",
        "Training",
        least=0,
        common=True,
    )
    learning_rate: float = option(
        0.0,
        "peak rate; 0: 1e-3 with scratch, 5e-5 for all weights, 2e-4, ia3 5e-3, prefix and prompt 1e-2, p-tuning 3e-3",
        "Training",
        least=0,
        common=True,
    )
    weight_decay: float = option(0.0, "weight decay of matrices", "Training", least=0)
    warmup: float = option(0.0, "share of steps with a rising learning rate", "Training", least=0, most=1)
    checkpointing: bool = option(False, "recompute activations in the backward pass, to save memory", "Training")
    pack: bool = option(False, "pack short rows end to end instead of padding them; no row sees another", "Training")
    keep: str = option(
        "best", "epoch to keep: best by validation loss, or last, which never stops early", "Training", ("best", "last")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden % 64 == 0, f"--hidden {self.hidden}: write a multiple of 64")
        adapters.check_options(self.kind, self.lora, self.weight_decay, self.virtual_tokens, self.max_length)
        beside = [name for name in ("pack", "checkpointing") if self.kind == "prefix" and getattr(self, name)]
        check(not beside, f"--tune prefix: not with {' or '.join(map(flag, beside))}; leave it out, or write prompt")
        check(self.vocabulary == 0 or self.vocabulary >= 300, f"--vocabulary {self.vocabulary}: 300 or more, or 0")

    @property
    def kind(self) -> str:
        """What trains."""
        return self.tune or ("lora" if self.lora else "full")

    def resolved(self) -> "Config":
        """With every automatic value decided and every path absolute, so that workers in other folders find it."""
        from ray_app.storage import absolute

        scratch = self.base_model == "scratch"
        check(
            not scratch or self.kind not in adapters.VIRTUAL,
            f"--tune {self.kind}: the weights of --base-model scratch are random, so all must train; leave it out",
        )
        check(
            self.base_model not in ("ready", "starter") or Path(self.base_model).is_dir(),
            f"--base-model {self.base_model}: reads both ways, so it cannot write; give a causal language model",
        )
        rate = 1e-3 if scratch else adapters.RATES[self.kind]
        return replace(
            self,
            learning_rate=self.learning_rate or rate,
            base_model=absolute(self.base_model) if Path(self.base_model).is_dir() else self.base_model,
            output=absolute(self.output),
            storage_path=absolute(self.storage),
        )
