"""Between "loaded" and "trained": a dry pass of the base model that `jobs.train` is given.

In: options, training texts. Out: nothing, or a UserError before the first epoch; a line about characters that the
tokenizer does not know.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.agreement import batching_of
from ray_app.engine.dry_pass import check_positions, examine, unknown_characters
from ray_app.engine.encoder import EncoderClassifier, load_base_model, load_keyword_scorer
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.inference import bundle as bundles
from ray_app.inference.bundle import SCORE_PROMPT
from ray_app.training.classifier_options import Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def rehearse(config: Config, taxonomy: Taxonomy, texts: Sequence[str]) -> None:
    """Opens the base model and passes a few texts through it, before a folder is claimed and workers are started."""
    if config.starts_from_bundle:
        base = bundles.load(config.base_model)
        bundles.check_joint(base, "--base-model")
        encoder = load_keyword_scorer(base.path / "joint").encoder
        place = f"--base-model {config.base_model!r}"
        check_positions(encoder.eval(), Tokenizer.load(base.path / "tokenizer"), config.max_length, place)
        return
    encoder, hf_tokenizer = open_base(config, taxonomy, texts)
    tokenizer = Tokenizer(hf_tokenizer)
    prepare(EncoderClassifier(encoder, 1, 0.0, config.pooling), tokenizer, config)
    if line := unknown_characters(tokenizer, texts):
        log.warning("--base-model %s: %s", config.base_model, line)


def open_base(
    config: Config, taxonomy: Taxonomy, texts: Sequence[str]
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """The base model and its tokenizer, as the options say; one of our own must be able to write the prompts too."""
    prompts = [SCORE_PROMPT.format(review="", keyword=keyword) for keyword in taxonomy.names]
    return load_base_model(config.base_model, config.layers, [*texts, *prompts], config.encoder_dropout)


def prepare(model: EncoderClassifier | KeywordScorer, tokenizer: Tokenizer, config: Config) -> None:
    """Makes an untrained model ready to be trained: weights that nothing reaches are frozen, and how it may be run is
    found out. Raises UserError where it cannot be trained; see `dry_pass` and `agreement`."""
    if config.starts_from_bundle:  # looked at when it was sealed
        model.batching = bundles.load(config.base_model).meta.batching
        return
    place = f"--base-model {config.base_model!r}"
    examine(model.encoder, tokenizer, config.max_length, place)
    model.batching = batching_of(model, tokenizer, config.max_length, place)
