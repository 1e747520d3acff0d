"""What training the classifiers is told: the options of `jobs.train`."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ray_app.errors import check
from ray_app.options import flag, option
from ray_app.training.options import TrainingOptions, begun_with
from ray_app.training.tuning.kinds import COUNTED, KINDS, RANKED, check_kinds

SHIPPED = ("ready", "starter", "scratch")  # base models that are no folder of the user's


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Options of `jobs.train`."""

    labels: str = option(
        "sample", "labeled reviews: Parquet, JSONL, CSV/TSV, a folder of them, or sample", "Data", common=True
    )
    also: tuple[str, ...] = option(
        (),
        "more labels, of some of the keywords only: they teach the scores of these, and a joint model to find them; "
        "scores of -1, 0, 1 count by sign",
        "Data",
    )
    output: str = option("runs/bundle", "bundle folder to write; must not exist", "Data", common=True)
    test: float = option(
        0.0,
        "share of rows to keep for a test where the labels name no test rows: of every keyword and feeling, no "
        "near-duplicate across it; the labels with it are written to OUTPUT.training/labels.parquet",
        "Data",
        least=0,
        below=1,
        common=True,
    )
    taxonomy: str = option("default", "default, labels (the keywords they name) or a YAML file", "Data", common=True)
    on_bad_label: str = option("fail", "stop at a bad label, or drop its row and report it", "Data", ("fail", "drop"))
    base_model: str = option(
        "klue/roberta-base",
        "Hugging Face encoder, folder, scratch, or shipped: ready (joint), starter; a bundle is trained further",
        "Model",
        common=True,
    )
    tune: str = option(
        "full",
        "what trains: all weights (full), a part, or a small addition; it is kept in OUTPUT.training/adapter, too, and "
        "is merged into the bundle",
        "Tuning",
        KINDS,
        common=True,
    )
    tune_scores: str = option(
        "same", "the same for a score classifier of its own; no joint model has one", "Tuning", ("same", *KINDS)
    )
    rank: int = option(8, "of what lora and dora add to a matrix", "Tuning", least=1)
    virtual_tokens: int = option(16, "tokens of prompt and p-tuning, keys per layer of prefix", "Tuning", least=1)
    adapter: tuple[str, ...] = option(
        (), "adapter/ folders of earlier trainings on this base model, put onto it before this one starts", "Tuning"
    )
    layers: int = option(0, "keep only this many first layers of the encoder, 0 for all", "Model", least=0)
    pooling: str = option(
        "auto",
        "which vector the classifiers read; auto is mean for starter and scratch, else first",
        "Model",
        ("auto", "first", "mean"),
    )
    weights: str = option(
        "fp32",
        "how an encoder's weights lie in the bundle; int8 takes a quarter of the room and is expanded at load",
        "Model",
        ("fp32", "int8"),
    )
    dropout: float = option(0.2, "dropout before the linear layer", "Model", least=0, below=1)
    encoder_dropout: float = option(0.1, "dropout inside the encoder", "Model", least=0, below=1)
    epochs: int = option(5, "passes over the labels", "Training", least=1, common=True)
    score_epochs: int = option(
        0, "passes of a score classifier of its own, 0 for as many; no joint model has one", "Training", least=0
    )
    learning_rate: float = option(
        0.0,
        "peak learning rate, 0 for 1e-3 with starter, scratch and a --tune other than full, else 5e-5",
        "Training",
        least=0,
        common=True,
    )
    head_start: float = option(
        5.0,
        "learning rate of a linear layer relative to the encoder's; no joint model has one",
        "Training",
        above=0,
    )
    probe: bool = option(
        True,
        "start the keywords' linear layer from a logistic regression on the untouched encoder; no joint model has one",
        "Training",
    )
    score_form: str = option(
        "joint",
        "how scores read the keyword: it attends over the review, in one model that also finds keywords (joint) or in "
        "a model of its own (attention); or it is written into the review (prompt)",
        "Model",
        ("joint", "attention", "prompt"),
        earlier="prompt",
    )
    evidence: float = option(
        0.3,
        "weight of drawing a keyword's attention onto its highlight words, where labels have some",
        "Training",
        least=0,
    )
    join: float = option(
        0.6,
        "share of reviews that scores learn from joined with another, so that feelings are mixed",
        "Training",
        least=0,
        most=1,
    )
    join_keywords: float = option(
        0.0, "the same for what a keyword classifier of its own learns from", "Training", least=0, most=1
    )
    weight_decay: float = option(0.01, "weight decay of matrices", "Training", least=0)
    warmup: float = option(0.1, "share of steps with a rising learning rate", "Training", least=0, most=1)
    balance: float = option(
        0.5, "score class weights: frequency to the power of minus this; 0 for none", "Training", least=0
    )

    @cached_property
    def starts_from_bundle(self) -> bool:
        """Whether the base model is a bundle, which is trained further."""
        from ray_app.inference.bundle_names import is_bundle

        return self.base_model not in ("starter", "scratch") and is_bundle(self.base_model)

    def tuned(self, name: str) -> str:
        """How the model called so is tuned."""
        return self.tune if name != "scores" or self.tune_scores == "same" else self.tune_scores

    def resolved(self) -> "Config":
        """With every `auto` decided and every path absolute, so that it holds in a worker's own working folder."""
        from ray_app.storage import absolute

        self._check_fit()
        self._check_tuning()
        small, further = self.base_model in ("starter", "scratch"), self.starts_from_bundle
        kinds = (self.tune,) if self.score_form == "joint" else (self.tune, self.tuned("scores"))
        check_kinds(kinds, self.base_model, self.virtual_tokens, self.max_length)
        return replace(
            self,
            pooling=("mean" if small or further else "first") if self.pooling == "auto" else self.pooling,
            learning_rate=self.learning_rate or (1e-3 if small or "full" not in kinds else 5e-5),
            adapter=tuple(map(absolute, self.adapter)),
            base_model=self._pinned_base(),
            storage_path=absolute(self.storage),
        )

    def _pinned_base(self) -> str:
        """The base model by a name that stands for the same on every worker; of a run that is resumed, the same one."""
        from ray_app.inference import bundle_names

        if self.base_model in SHIPPED:
            return self.base_model
        return bundle_names.pinned_base(self.base_model, begun_with(self.storage, self.resume, "base_model"))

    def _check_tuning(self) -> None:
        """Raises UserError where an option is of no kind of tuning that is asked for."""
        kinds = {self.tune, self.tuned("scores")}
        for name, usual, own in (("rank", 8, RANKED), ("virtual_tokens", 16, COUNTED)):
            check(
                self.resume or getattr(self, name) == usual or kinds & set(own),
                f"{flag(name)}: it does nothing with --tune {self.tune}, only with {', '.join(own)}; leave it out",
            )

    def _check_fit(self) -> None:
        """Raises UserError where options do not go together."""
        check(self.base_model.strip(), "--base-model: no name; give an encoder, a folder, ready, starter or scratch")
        meant = self.base_model.strip().lower()
        check(
            meant not in SHIPPED or self.base_model in SHIPPED or Path(self.base_model).is_dir(),
            f"--base-model {self.base_model!r}: did you mean {meant!r}?",
        )
        check(self.labels not in self.also, f"--also {self.labels}: those are --labels already; leave it out")
        further = self.starts_from_bundle
        check(
            not further or self.score_form == "joint",
            f"--base-model {self.base_model}: a bundle is trained further as a joint model; write --score-form joint",
        )
        check(
            not (further and (self.layers or self.pooling != "auto")),
            f"--base-model {self.base_model}: a bundle keeps its layers and reads all tokens; leave --layers and "
            "--pooling out",
        )
        own = (
            ("head_start", 5.0),
            ("probe", True),
            ("score_epochs", 0),
            ("join_keywords", 0.0),
            ("tune_scores", "same"),
        )
        for name, usual in own:
            check(
                self.resume or self.score_form != "joint" or getattr(self, name) == usual,
                f"{flag(name)}: a joint model has no classifier of its own for it; leave it out, or write --score-form "
                "attention",
            )
        check(
            not (self.also and self.score_form == "prompt"),
            "--also: only keywords that attend learn from it; write --score-form joint or attention",
        )
