"""The verbs of `jobs.compress`: steps that make a bundle smaller, one or several, behind one gate.

In: a bundle, for some steps unlabeled reviews, labels to judge by. Out: a bundle. A chain is judged once, at its end,
against the bundle that it began with.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.compression.distil_options import DistilConfig
from ray_app.compression.gate import GateOptions
from ray_app.errors import check
from ray_app.options import as_dict, option

if TYPE_CHECKING:
    from ray_app.inference.bundle import Bundle, BundleMeta
    from ray_app.storage.lease import Lease
    from ray_app.training.loop import EpochRow

STEPS = ("slice", "distil", "vocabulary", "int8", "store")


@dataclass(frozen=True, kw_only=True)
class StepConfig(GateOptions):
    """Options of `jobs.compress int8`."""

    bundle: str = option("ready", "bundle to make smaller", "Data", common=True)
    output: str = option("runs/smaller", "bundle to write; must not exist", "Data", common=True)


@dataclass(frozen=True, kw_only=True)
class StoreConfig(StepConfig):
    """Options of `jobs.compress store`."""

    weights: str = option(
        "int8", "int8 takes a quarter of the room of fp32, int4 an eighth", "Options", ("int8", "int4"), common=True
    )


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig(StepConfig):
    """Options of `jobs.compress vocabulary`."""

    input: str = option("sample", "reviews whose pieces stay, as jobs.analyze reads them", "Data", common=True)
    columns: str = option("", "column names, where they are not recognized: text=NAME", "Data")
    limit: int = option(200_000, "reviews of the input that are read, at most", "Data", least=1)


@dataclass(frozen=True, kw_only=True)
class SliceConfig(StepConfig):
    """Options of `jobs.compress slice`."""

    input: str = option(
        "sample", "reviews on which importance is measured, as jobs.analyze reads them", "Data", common=True
    )
    columns: str = option("", "column names, where they are not recognized: text=NAME", "Data")
    limit: int = option(1_000, "reviews of the input that are drawn from, at most", "Data", least=1)
    layers: int = option(0, "encoder layers that stay, 0 for all", "Options", least=0, common=True)
    intermediate: int = option(0, "width of its feed-forward layers, 0 for all of it", "Options", least=0, common=True)


@dataclass(frozen=True, kw_only=True)
class ChainConfig(DistilConfig):
    """Options of `jobs.compress chain`: those of `distil`, and which steps."""

    output: str = option("runs/smaller", "bundle to write; must not exist", "Data", common=True)
    steps: tuple[str, ...] = option(
        STEPS[1:], "steps in this order; leave out what is not wanted", "Data", each=STEPS, common=True
    )


def distil(config: DistilConfig) -> str:
    """Teaches a student in this process and seals it behind the gate; returns its id. Raises UserError where the
    teacher is not of the joint form, or there is too little to learn from."""
    return _made(config, config.bundle, config.output, ("distil",))


def int8(config: StepConfig) -> str:
    """Seals the bundle with int8 products behind the gate; returns its id."""
    return _made(config, config.bundle, config.output, ("int8",))


def store(config: StoreConfig) -> str:
    """Seals the bundle with its weights in 8 or 4 bits behind the gate; returns its id."""
    return _made(config, config.bundle, config.output, ("store",))


def cut(config: SliceConfig) -> str:
    """Seals the bundle without the layers and neurons that matter least behind the gate; returns its id. Nothing is
    taught or tuned anew. Raises UserError where its encoder cannot be cut."""
    return _made(config, config.bundle, config.output, ("slice",))


def vocabulary(config: VocabularyConfig) -> str:
    """Seals the bundle with the pieces that occur behind the gate; returns its id."""
    return _made(config, config.bundle, config.output, ("vocabulary",))


def chain(config: ChainConfig) -> str:
    """All steps, then the gate; returns the bundle's id. Raises UserError where the steps are out of order."""
    check(config.steps, "--steps: name at least one")
    order = [STEPS.index(step) for step in config.steps]
    check(order == sorted(set(order)), f"--steps {','.join(config.steps)}: write them in the order {','.join(STEPS)}")
    check(
        not {"slice", "distil"} <= set(config.steps),
        "--steps: distil begins with a slice of its own, of --layers and --intermediate; leave slice out",
    )
    check(
        "store" not in config.steps or config.weights != "fp32",
        "--weights fp32: the step store is for int8 or int4; leave it out of --steps",
    )
    return _made(config, config.bundle, config.output, config.steps)


def _made(config: GateOptions, bundle: str, output: str, wanted: tuple[str, ...]) -> str:
    """The steps, then the gate. A student is taught by one run at a time, whose checkpoints last until it is judged."""
    from ray_app.compression.sealed import check_free, failed_of
    from ray_app.storage import is_empty
    from ray_app.storage.lease import Lease
    from ray_app.training.checkpoints import CHECKPOINTS, clear_parts
    from ray_app.training.tracking import follower

    check_free(output)
    if "distil" not in wanted:
        return _steps(config, bundle, output, wanted)
    assert isinstance(config, DistilConfig)
    follower.check_tracker(config.track)
    with Lease(config.storage) as lease:
        config, began = _pinned(config), time.monotonic()
        try:
            with follower.tracked(config.track, output, config.storage, as_dict(config)) as tracked:
                identity = _steps(config, config.bundle, output, wanted, lease)
                tracked.note(identity, _best_of(output), time.monotonic() - began)
                return identity
        finally:
            if not (is_empty(output) and is_empty(failed_of(output))):
                clear_parts(config.storage, ("config.json", CHECKPOINTS))


def _best_of(output: str) -> dict[str, "EpochRow"]:
    """The best epoch of a student, by its name in metrics.jsonl."""
    from ray_app import storage
    from ray_app.inference.bundle_names import INDEX

    return {"student": storage.read_json(storage.join(output, INDEX))["metrics"]["joint"]}


def _pinned(config: DistilConfig) -> DistilConfig:
    """With the teacher by a name that stands for the same bundle from now on; where a run is resumed, for the one that
    it was begun with."""
    from ray_app.inference import bundle_names
    from ray_app.training.options import begun_with

    begun = begun_with(config.storage, config.resume, "bundle")
    return replace(config, bundle=bundle_names.kept_or_pinned(config.bundle, begun, "--bundle"))


def _steps(config: GateOptions, bundle: str, output: str, wanted: tuple[str, ...], lease: "Lease | None" = None) -> str:
    from ray_app.compression import steps
    from ray_app.compression.gate import check_judged
    from ray_app.compression.sealed import seal_behind_gate
    from ray_app.data import reviews
    from ray_app.inference import bundle as bundles

    old = bundles.load(bundle)
    check_judged(old, config)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        if "distil" in wanted:
            assert isinstance(config, DistilConfig)  # what is stored at the end is not rounded before
            meta = _distilled(replace(config, weights="fp32") if "store" in wanted else config, old, folder)
        else:
            meta = steps.unsealed_copy(old, folder, "+".join(wanted))
        if "slice" in wanted:
            assert isinstance(config, (SliceConfig, DistilConfig))
            check(config.layers or config.intermediate, "slice: write --layers, --intermediate, or both")
            texts = reviews.sampled_texts(config.input, config.columns, config.limit)
            meta = steps.cut(folder, meta, texts, config.layers, config.intermediate)
        if "vocabulary" in wanted:
            meta = steps.vocabulary(folder, meta, _texts(config, old))
        if "int8" in wanted:
            meta = steps.int8(folder, meta)
        if "store" in wanted:
            assert isinstance(config, (StoreConfig, DistilConfig))
            meta = steps.store(folder, meta, config.weights)
        if lease:
            lease.check()
        return seal_behind_gate(folder, meta, old, config, output)


def _distilled(config: DistilConfig, teacher: "Bundle", folder: Path) -> "BundleMeta":
    from ray_app.compression.teaching import taught
    from ray_app.inference import bundle as bundles
    from ray_app.labels import reader

    bundles.check_joint(teacher, "--bundle")
    return taught(config, teacher, reader.read_labels_with(config.labels, teacher.meta.taxonomy, "fail"), folder)


def _texts(config: GateOptions, old: "Bundle") -> list[str]:
    """Reviews whose pieces stay: of the input, and those of the labels that do not judge."""
    from ray_app.data import reviews
    from ray_app.labels import reader

    assert isinstance(config, (VocabularyConfig, DistilConfig))
    labels = reader.read_labels_with(config.labels, old.meta.taxonomy, "fail")
    own = labels.split("train", "validation", None)["text"].to_pylist() if len(labels.split("test")) else []
    return [*own, *reviews.sampled_texts(config.input, config.columns, config.limit)]
