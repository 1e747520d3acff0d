"""From a base model's name to what training starts from, and a dry pass of it before anything is trained.

In: options, training texts. Out: encoder, tokenizer and, where one is known, a head; or a UserError before the first
epoch; a line about characters that the tokenizer does not know, and about what virtual tokens cut.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.data.taxonomy import Taxonomy
from ray_app.engine import keyword_reader
from ray_app.engine.agreement import batching_of
from ray_app.engine.device import choose_device
from ray_app.engine.dry_pass import examine, unknown_characters
from ray_app.engine.encoder import EncoderClassifier, load_base_model, load_keyword_scorer
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check
from ray_app.inference import bundle as bundles
from ray_app.inference.bundle import SCORE_PROMPT, models_of
from ray_app.training.classifier_options import Config
from ray_app.training.tuning import kept
from ray_app.training.tuning.kept import Opened
from ray_app.training.tuning.kinds import VIRTUAL
from ray_app.training.tuning.tune import Way, tune
from ray_app.training.tuning.virtual_tokens import with_virtual_tokens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def rehearse(config: Config, taxonomy: Taxonomy, texts: Sequence[str]) -> None:
    """Opens the base model, passes a few texts through it and tunes a copy of nothing but its shape, before a folder is
    claimed and workers are started."""
    kept.check_adapters(config.adapter, models_of(config.score_form), config.storage)
    for name in models_of(config.score_form):
        way, opened = way_of(config, name), start(name, config, taxonomy, texts, "cpu")
        tokenizer = Tokenizer(opened.tokenizer)
        model = EncoderClassifier(opened.encoder, 1, 0.0, config.pooling)
        prepare(model, tokenizer, config)
        check(
            way.kind != "embeddings" or opened.head is not None or (name == "keywords" and config.probe),
            "--tune embeddings: the head stays as it is, and this one is new; write embeddings-head, or start from a "
            "bundle or --adapter with these keywords",
        )
        own = Tokenizer(tokenizer_of(opened, way, config.base_model))
        tune(model, way, tokenizer, taxonomy.names)
        if way.kind in VIRTUAL:
            room = own.max_review_tokens(config.max_length)
            cut = sum(length > room for length in own.count(texts))
            log.info(
                "--tune %s: %d of the %d tokens of --max-length are virtual, %d are left for a review; %s of %s "
                "training reviews are cut",
                *(way.kind, way.virtual_tokens, config.max_length, room, f"{cut:,}", f"{len(texts):,}"),
            )
    if not config.starts_from_bundle and (line := unknown_characters(tokenizer, texts)):
        log.warning("--base-model %s: %s", config.base_model, line)


def way_of(config: Config, name: str) -> Way:
    """How the model called `name` is tuned."""
    return Way(kind=config.tuned(name), rank=config.rank, virtual_tokens=config.virtual_tokens)


def start(name: str, config: Config, taxonomy: Taxonomy, texts: Sequence[str], device: str) -> Opened:
    """What the model called `name` starts from: the base model with every --adapter on it.

    `device`: where a bundle's reader reads; a driver may lack the workers' device.
    """
    opened = _bundle(config, taxonomy, device) if config.starts_from_bundle else _base(config, taxonomy, texts)
    for folder in config.adapter:
        attends = name == "joint" or (name == "scores" and config.score_form == "attention")
        opened = kept.with_adapter(opened, folder, name, taxonomy, attends)
    return opened


def tokenizer_of(opened: Opened, way: Way, base_model: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model tuned so: with virtual tokens behind the rows of the words, where it has some."""
    if way.kind not in VIRTUAL:
        return opened.tokenizer
    rows = int(opened.encoder.get_input_embeddings().weight.shape[0])
    return with_virtual_tokens(opened.tokenizer, rows, way.virtual_tokens, f"--base-model {base_model!r}")


def _base(config: Config, taxonomy: Taxonomy, texts: Sequence[str]) -> Opened:
    """As the options say; a base model of our own must be able to write the prompts too."""
    prompts = [SCORE_PROMPT.format(review="", keyword=keyword) for keyword in taxonomy.names]
    encoder, tokenizer = load_base_model(config.base_model, config.layers, [*texts, *prompts], config.encoder_dropout)
    return Opened(encoder=encoder, tokenizer=tokenizer, identity=kept.identity_of(encoder))


def _bundle(config: Config, taxonomy: Taxonomy, device: str) -> Opened:
    """A bundle's joint model. With its own keywords and scores it goes on as it is; with others its encoder does, under
    a head that its reader makes from their texts, or, where it has none, under a new one."""
    base = bundles.load(config.base_model)
    bundles.check_joint(base, "--base-model")
    model = load_keyword_scorer(base.path / "joint", config.encoder_dropout)
    tokenizer = Tokenizer.load(base.path / "tokenizer")
    identity, known = kept.identity_of(model.encoder), base.meta.taxonomy
    head: dict[str, Tensor] | None = None
    thresholds = None
    if (known.names, known.scores) == (taxonomy.names, taxonomy.scores):
        head, thresholds = model.head.state_dict(), base.meta.thresholds
    elif (base.path / bundles.READER).is_file() and keyword_reader.outputs_of(taxonomy.scores):
        reader = keyword_reader.load(base.path / bundles.READER)
        vectors = keyword_reader.phrase_vectors(
            model.encoder, model.head, tokenizer, taxonomy, choose_device(device), base.meta.batching
        )
        head = reader.head(vectors, taxonomy.scores).state_dict()
    return Opened(encoder=model.encoder, tokenizer=tokenizer.hf, identity=identity, head=head, thresholds=thresholds)


def prepare(model: EncoderClassifier | KeywordScorer, tokenizer: Tokenizer, config: Config) -> None:
    """Makes an untrained model ready to be trained: weights that nothing reaches are frozen, and how it may be run is
    found out. Raises UserError where it cannot be trained; see `dry_pass` and `agreement`."""
    place = f"--base-model {config.base_model!r}"
    examine(model.cpu().encoder, tokenizer, config.max_length, place)
    if config.starts_from_bundle:  # how it may be run was found out when it was sealed
        model.batching = bundles.load(config.base_model).meta.batching
        return
    model.batching = batching_of(model, tokenizer, config.max_length, place)
