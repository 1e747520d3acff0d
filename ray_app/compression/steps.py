"""The ways to make a bundle smaller that need no training, each on an unsealed copy of it.

In: a folder with a bundle's files, and its meta. Out: the folder rewritten, and the new meta.

cut         layers and feed-forward neurons that matter least go
vocabulary  pieces that never occur in the given texts go, and with them their embeddings
int8        the engine's int8 products, a scale per token: on CPUs; a GPU runs the same bundle in bf16
store       weights lie in 8 or 4 bits on disk and are expanded at load
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ray_app import __version__
from ray_app.arrays import evenly
from ray_app.compression.slicing import MEASURED, check_sliceable, sliced
from ray_app.compression.vocabulary import cut_embeddings, cut_tokenizer
from ray_app.engine import weight_storage
from ray_app.engine.encoder import EncoderClassifier, load_keyword_scorer, load_model, save_model
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.linear import has_int8
from ray_app.engine.tokenizer import Tokenizer
from ray_app.engine.unpadded import supports
from ray_app.errors import check
from ray_app.inference.bundle import CARD, Bundle, BundleMeta, models_of

Model = KeywordScorer | EncoderClassifier


def unsealed_copy(bundle: Bundle, folder: Path, step: str) -> BundleMeta:
    """The bundle's files without bundle.json and model card, and its meta; provenance says what it was made of."""
    shutil.copytree(
        bundle.path, folder, ignore=lambda at, names: {"bundle.json", CARD} if at == str(bundle.path) else ()
    )
    made: dict[str, object] = {"made": step, "of": bundle.id, "nunchi": __version__, "before": bundle.meta.provenance}
    return replace(bundle.meta, provenance=made)


def cut(folder: Path, meta: BundleMeta, texts: Sequence[str], layers: int, intermediate: int) -> BundleMeta:
    """Slices every model's encoder to so many layers, of so many neurons each; importance is measured on some of the
    texts. Raises UserError where it cannot be cut so."""
    tokenizer = Tokenizer.load(folder / "tokenizer")
    sequences = tokenizer.with_special_tokens(tokenizer(texts).sequences, meta.max_length)
    some = sequences.take(evenly(len(sequences), MEASURED))

    def change(model: Model) -> Model:
        model.batching = meta.batching
        check_sliceable(model, f"bundle {folder.name}", layers, intermediate)
        return sliced(model, layers, intermediate, some, tokenizer.pad_id)

    _each(folder, meta, change)
    return meta


def vocabulary(folder: Path, meta: BundleMeta, texts: Sequence[str]) -> BundleMeta:
    """Cuts the tokenizer to what these texts, the keywords and the prompt need, and every model's embeddings."""
    prompts = [meta.score_prompt.format(review="", keyword=name) for name in meta.taxonomy.names]
    kept = cut_tokenizer(folder / "tokenizer", [*texts, *meta.taxonomy.names, *prompts])

    def change(model: Model) -> Model:
        cut_embeddings(model.encoder, kept)
        return model

    _each(folder, meta, change)
    return meta


def int8(folder: Path, meta: BundleMeta) -> BundleMeta:
    """Products in int8 where the bundle runs on a CPU. Raises UserError where that would not be the flat engine."""
    check(has_int8(), "int8: this torch has no int8 product for this processor, so the gate cannot judge it here")
    for name in models_of(meta.score_form):
        model = load(folder, meta, name)
        kind = model.encoder.config.model_type
        flat = supports(model) and meta.batching == "auto"
        check(flat, f"int8: {kind} encoders run through transformers, which has no int8 product per token")
    return replace(meta, backend="int8")


def store(folder: Path, meta: BundleMeta, weights: str = "int8") -> BundleMeta:
    """Weights in 8 bits on disk, or with `weights` int4 in 4."""
    _each(folder, meta, lambda model: model, weights)
    return meta


def _each(folder: Path, meta: BundleMeta, change: Callable[[Model], Model], weights: str = "") -> None:
    """Changes every model and saves it as it lay, or as `weights` says."""
    for name in models_of(meta.score_form):
        own = folder / name
        model = load(folder, meta, name)
        stored = weights or weight_storage.stored_as(own)
        model = change(model)
        shutil.rmtree(own)
        save_model(model, own, stored)


def load(folder: Path, meta: BundleMeta, name: str) -> Model:
    """One of a bundle's models, by the name of its folder."""
    attends = name != "keywords" and meta.attends
    return load_keyword_scorer(folder / name) if attends else load_model(folder / name, meta.pooling)
