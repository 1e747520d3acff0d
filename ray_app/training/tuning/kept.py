"""What tuning added to a base model, kept by itself in the training folder, and put onto the base again.

    adapter/NAME/adapter.json          the kind, its settings, the base it belongs to, the keywords and their thresholds
    adapter/NAME/adapter.safetensors   what trained in the encoder; of an embedding, the rows that changed
    adapter/NAME/head.safetensors      the head
    adapter/known_texts.safetensors    hashes of the texts that it learned from, and the base before it

In: a tuned model, or a base model and such a folder. Out: the folder, or the base model as it was after tuning.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ray_app import storage
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError, check, first_line
from ray_app.training.tuning import tune
from ray_app.training.tuning.kinds import VIRTUAL, WORDS
from ray_app.training.tuning.virtual_tokens import with_virtual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FOLDER = "adapter"
FORMAT = 1
ROWS = "rows"  # numbers of the rows of an embedding that changed


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A base model as training starts from it: `identity` tells it apart; `head` is the state of one that was trained
    for the same keywords, `thresholds` those it had."""

    encoder: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"
    identity: str
    head: dict[str, Tensor] | None = None
    thresholds: "Sequence[float] | None" = None


def identity_of(encoder: nn.Module) -> str:
    """SHA-256 over an encoder's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def words_before(encoder: "PreTrainedModel", way: tune.Way) -> Tensor | None:
    """The rows of the words before they train, where they do."""
    return encoder.get_input_embeddings().weight.detach().cpu().clone() if way.kind in WORDS else None


def learned(encoder: nn.Module, before: Tensor | None) -> dict[str, Tensor]:
    """What trained in an encoder, by name; of an embedding the rows that are not as `before`."""
    state = {name: p.detach().cpu().contiguous().clone() for name, p in encoder.named_parameters() if p.requires_grad}
    if before is None:
        return state
    ((name, weight),) = state.items()
    rows = (weight != before).any(1).nonzero()[:, 0]
    return {name: weight[rows], ROWS: rows}


def write(
    folder: str,
    way: tune.Way,
    base: str,
    taxonomy: Taxonomy,
    state: Mapping[str, Tensor],
    head: nn.Module,
    thresholds: Sequence[float] = (),
) -> None:
    """Writes an adapter's folder, local or remote. `state`: of `learned`. `thresholds`: those of the head per keyword,
    none where it finds no keywords."""
    with tempfile.TemporaryDirectory() as scratch:
        save_file(dict(state), Path(scratch) / "adapter.safetensors")
        parts = {name: t.detach().cpu().contiguous() for name, t in head.state_dict().items()}
        save_file(parts, Path(scratch) / "head.safetensors")
        told = {"format": FORMAT, **asdict(way), "base": base, "keywords": taxonomy.names, "scores": taxonomy.scores}
        told["thresholds"] = list(thresholds)
        storage.write_json(str(Path(scratch) / "adapter.json"), told)
        storage.upload(scratch, folder, last="adapter.json")


def check_adapters(folders: tuple[str, ...], models: tuple[str, ...], training: str) -> None:
    """Raises UserError where an adapter lacks one of a bundle's models, or lies where this training writes its own."""
    for folder in folders:
        place = f"--adapter {folder}"
        own, given = storage.join(training, FOLDER), storage.absolute(folder).rstrip("/")
        inside = given == own or given.startswith(own + "/")
        check(not inside, f"{place}: this training writes its own there; name another --output, or copy it")
        for name in models:
            known = storage.exists(storage.join(folder, name, "adapter.json"))
            check(
                known,
                f"{place}: no {name}/adapter.json there; give the folder adapter/ of a training with the same "
                "--score-form and a --tune other than full",
            )


def with_adapter(opened: Opened, folder: str, name: str, taxonomy: Taxonomy, attends: bool) -> Opened:
    """The base model as it was after the tuning that wrote the folder, plain; with its head and thresholds, where these
    are of the same keywords and scores, and of keywords that attend or not, as here, else with the base's own, where
    that has some. Raises UserError where it belongs to another base."""
    place = f"--adapter {folder}"
    with tempfile.TemporaryDirectory() as scratch:
        storage.download(storage.join(folder, name), Path(scratch))
        told: dict[str, Any] = storage.read_json(str(Path(scratch) / "adapter.json"))
        try:
            check(told["format"] == FORMAT, f"{place}: format {told['format']}; this release reads format {FORMAT}")
            way = tune.Way(**{key: told[key] for key in ("kind", "rank", "virtual_tokens")})
            check(
                told["base"] == opened.identity,
                f"{place}: {name} was tuned on another base model; give --base-model that",
            )
            state, head = (load_file(Path(scratch) / f"{part}.safetensors") for part in ("adapter", "head"))
            made = _applied(opened, way, state, told["keywords"])
            named = [list(taxonomy.names), list(taxonomy.scores)] == [told["keywords"], told["scores"]]
            same = named and ("own" in head) == attends
            thresholds = _thresholds_of(told)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise UserError(f"{place}: {name} is damaged ({first_line(error)}); copy it again") from None
    digest = hashlib.sha256(opened.identity.encode())
    for part, value in sorted(state.items()):
        digest.update(part.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Opened(
        encoder=made[0],
        tokenizer=made[1],
        identity=digest.hexdigest(),
        head=head if same else opened.head,  # what the base has is of the keywords that are asked for
        thresholds=thresholds if same and thresholds else opened.thresholds,
    )


def _thresholds_of(told: Mapping[str, Any]) -> list[float]:
    """The thresholds in an adapter's description; none of scores, and of adapters that were written without them.
    Raises ValueError where they are not one probability per keyword."""
    given = told.get("thresholds", [])
    if given and (len(given) != len(told["keywords"]) or not all(0 <= float(value) <= 1 for value in given)):
        raise ValueError("its thresholds are not one probability per keyword")
    return [float(value) for value in given]


def _applied(
    opened: Opened, way: tune.Way, state: dict[str, Tensor], keywords: list[str]
) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Encoder and tokenizer with what was learned. Raises ValueError where its names are not those of the kind."""
    model, hf = EncoderClassifier(opened.encoder, 1, 0.0), opened.tokenizer
    own = Tokenizer(hf)
    if way.kind in VIRTUAL:
        first = opened.encoder.get_input_embeddings().num_embeddings
        hf = with_virtual_tokens(hf, first, way.virtual_tokens, "--adapter")
    tune.tune(model, way, own, keywords)
    parameters = {name: p for name, p in model.encoder.named_parameters() if p.requires_grad}
    rows = state.get(ROWS)
    if {name for name in state if name != ROWS} != set(parameters):
        raise ValueError("it holds other weights than its kind has")
    with torch.no_grad():
        for name, parameter in parameters.items():
            place = parameter[rows if rows is not None else slice(None)]
            if place.shape != state[name].shape:  # a shape that can be stretched would be, silently
                raise ValueError(f"{name} has another shape than its kind has")
            parameter[rows if rows is not None else slice(None)] = state[name]
    tune.make_plain(model)
    return model.encoder.requires_grad_(True), hf
