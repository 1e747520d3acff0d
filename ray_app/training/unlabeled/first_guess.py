"""A bundle for a taxonomy that nobody has labeled: a first guess, to be replaced by one that was trained.

    keyword texts -> the reader's queries -> a head -> taught by the cue words on unlabeled reviews of the same shop

In: a taxonomy, a bundle with a reader (`aspects.py`), texts. Out: a bundle. What a review speaks of is taught by where
the keywords' names and cue words stand, so that it is also found where other words say it; how it feels is the
reader's, which learned it over other taxonomies. The encoder stays as it is.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_app.errors import check
from ray_app.options import REQUIRED, SEEDS, Options, option

if TYPE_CHECKING:
    from ray_app.data.taxonomy import Taxonomy
    from ray_app.inference.bundle import Bundle

TEXTS = 1_500  # unlabeled reviews that are read
FEW = 20  # fewer teach nothing
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GuessConfig(Options):
    """Options of `jobs.train guess`."""

    taxonomy: str = option(REQUIRED, "YAML file: keywords with guideline and cue words", "Data", common=True)
    input: str = option("sample", "unlabeled reviews of the same shop, as jobs.analyze reads them", "Data", common=True)
    columns: str = option("", "column names, where they are not recognized: text=NAME", "Data")
    bundle: str = option("ready", "bundle with a reader", "Data", common=True)
    output: str = option("runs/guess", "bundle to write; must not exist", "Data", common=True)
    epochs: int = option(8, "passes over the reviews", "Training", least=1)
    device: str = option("auto", "where to train", "Training", ("auto", "cpu", "cuda"))
    seed: int = option(0, "seed of everything random", "Training", least=0, below=SEEDS)


def guess_bundle(config: GuessConfig, texts: Sequence[str] | None = None) -> str:
    """Makes the bundle in this process, and returns its id. Raises UserError where taxonomy, texts or base do not do.

    Args:
        texts: unlabeled reviews in place of those of the input; TEXTS at most are read, evenly.
    """
    from ray_app import storage
    from ray_app.data import reviews
    from ray_app.data import taxonomy as taxonomies
    from ray_app.inference import bundle as bundles
    from ray_app.inference import known_texts, sealing

    taxonomy, base = taxonomies.load(config.taxonomy), bundles.load(config.bundle)
    _check_base(config, taxonomy, base)
    if texts is None:
        texts = reviews.sampled_texts(config.input, config.columns, TEXTS)
    distinct = list(dict.fromkeys(texts))
    count = len(distinct)
    check(count >= FEW, f"--taxonomy {config.taxonomy}: {count} reviews to learn it from; {FEW} are needed")
    distinct = distinct[:: max(1, count // TEXTS)][:TEXTS]
    log.info("%s: learning where its words stand in %s reviews", config.taxonomy, f"{len(distinct):,}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        learned = _learned(config, taxonomy, base, distinct, folder)
        meta = replace(base.meta, metrics={}, support={}, **learned)  # type: ignore[arg-type]
        known_texts.write([], folder, base.path)  # no label was read
        identity = sealing.seal_checked(folder, meta)
        storage.upload(str(folder), config.output, last="bundle.json")
    return identity


def _check_base(config: GuessConfig, taxonomy: "Taxonomy", base: "Bundle") -> None:
    """Raises UserError where the bundle has no reader, or the reader does not know the taxonomy's scale."""
    from ray_app.engine.keyword_reader import outputs_of
    from ray_app.inference.bundle import READER

    check(
        (base.path / READER).is_file(),
        f"--bundle {config.bundle}: it knows its own keywords only; write --bundle ready, or make one that reads "
        "others with python -m jobs.pretrain aspects",
    )
    check(
        outputs_of(taxonomy.scores),
        f"--taxonomy {config.taxonomy}: scores {list(taxonomy.scores)}; without labels they must lie within -2..2",
    )


def _learned(
    config: GuessConfig, taxonomy: "Taxonomy", base: "Bundle", texts: list[str], folder: Path
) -> dict[str, object]:
    """Writes the model's folders; returns what of the bundle's meta is its own."""
    import torch

    from ray_app import __version__
    from ray_app.engine import keyword_reader
    from ray_app.engine.device import choose_device
    from ray_app.engine.encoder import load_keyword_scorer, save_head
    from ray_app.engine.tokenizer import Tokenizer
    from ray_app.inference.bundle import READER
    from ray_app.training.loop import train_model
    from ray_app.training.settings import Settings
    from ray_app.training.unlabeled.guess_task import guess_task

    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    model = load_keyword_scorer(base.path / "joint", 0.0)
    tokenizer = Tokenizer.load(base.path / "tokenizer")
    vectors = keyword_reader.phrase_vectors(model.encoder, model.head, tokenizer, taxonomy, device, base.meta.batching)
    head = keyword_reader.load(base.path / READER).head(vectors, taxonomy.scores)
    task = guess_task(head, model.encoder, tokenizer, taxonomy, texts, base.meta.max_length, device, base.meta.batching)
    for name in task.unheard:
        log.warning("keyword %s: none of its words occurs in %d reviews; add cue words", name, len(texts))
    settings = Settings(
        epochs=config.epochs, batch_size=16, learning_rate=1e-3, patience=0, seed=config.seed, keep_last=True
    )
    train_model(head, task, settings, lambda row, write: None, None, config.device, log.info)
    for part in ("joint", "tokenizer"):
        shutil.copytree(base.path / part, folder / part)
    shutil.copy(base.path / READER, folder / READER)
    save_head(head, folder / "joint")
    made_of = {"base_model": f"bundle {base.id}", "labels": "none: a first guess", "rows": 0, "texts": len(texts)}
    return {
        "taxonomy": taxonomy,
        "thresholds": tuple(task.thresholds(head, device)),
        "provenance": {**made_of, "nunchi": __version__, "encoder": base.meta.provenance},
    }


def run_guess(config: GuessConfig) -> str:
    """`jobs.train guess`: makes the bundle, prints what it is and what comes next, and returns its id."""
    from ray_app import storage
    from ray_app.cli import next_command

    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    identity = guess_bundle(config)
    print(f"bundle {identity} in {config.output}: a first guess, from the keywords' words alone; nothing was labeled")
    print("Next: " + next_command("analyze", input=config.input, bundle=config.output))
    return identity
