"""A few texts through an untrained model: what would go wrong in training is found within seconds.

In: an encoder, its tokenizer, texts. Out: nothing where all is well, else a UserError that says why; a line where many
characters are unknown to the tokenizer.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError, check, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNKNOWN = 0.05  # share of [UNK] among tokens from which a line is said
READ = 1_000  # texts that are tokenized for it
SHOWN = 10  # characters it names
log = logging.getLogger(__name__)


def examine(encoder: "PreTrainedModel", tokenizer: Tokenizer, max_length: int, place: str) -> None:
    """Runs the encoder on made-up tokens. Raises UserError where it cannot read `max_length` tokens, does not read both
    ways, or does not give one vector of its width per token. Weights that no token reaches are frozen: two workers
    would wait for their gradients."""
    kind = encoder.config.model_type
    training = encoder.training
    encoder.eval()
    tokens = _some_tokens(encoder, tokenizer)
    states = _states(encoder, tokens)
    if isinstance(states, Exception):
        raise UserError(f"{place}: {kind} models cannot be run on token ids alone ({first_line(states)})")
    width = int(encoder.config.hidden_size)
    check(
        states.shape == (1, tokens.shape[1], width),
        f"{place}: {kind} models give states {list(states.shape[1:])} for {tokens.shape[1]} tokens, where an encoder "
        f"gives [{tokens.shape[1]}, {width}]",
    )
    check(bool(torch.isfinite(states).all()), f"{place}: it answers NaN or infinity; the checkpoint is damaged")
    ahead, back = (depends(states, _states(encoder, others), part) for others, part in _with_other_ends(tokens))
    check(ahead or back, f"{place}: {kind} models need something that is not here: no token reads another")
    check(
        ahead,
        f"{place}: {kind} models read forward only, and a keyword needs both sides; train a language model with "
        "python -m jobs.train_lm, or give an encoder",
    )
    check_positions(encoder, tokenizer, max_length, place)
    _freeze_unused(encoder, tokens)
    encoder.train(training)


def depends(states: Tensor, others: "Tensor | Exception", part: slice) -> bool:
    """Whether states [1, tokens, width] of these tokens changed in `others`, where another token differs."""
    if isinstance(others, Exception):
        return True
    apart = float((states[:, part] - others[:, part]).abs().max())
    return apart > 1e-6 * max(1.0, float(states.abs().max()))


@torch.no_grad()
def check_reads_forward(model: "PreTrainedModel", place: str) -> None:
    """Raises UserError where an earlier token's logits depend on a later one: such a model would learn to copy."""
    ids = torch.arange(1, 9)[None] % int(model.get_input_embeddings().weight.shape[0])
    other, training = ids.clone(), model.training
    other[0, -1] = ids[0, 2]
    logits, others = (model.eval()(input_ids=tokens, use_cache=False).logits for tokens in (ids, other))
    model.train(training)
    check(
        not depends(logits, others, slice(0, -1)),
        f"{place}: {model.config.model_type} models read both ways, so they cannot write; train classifiers with "
        "python -m jobs.train, or give a causal language model",
    )


def unknown_characters(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
    """A line where more than UNKNOWN of the texts' tokens are [UNK], naming the commonest characters lost, else ''."""
    texts = texts[:: max(1, len(texts) // READ)][:READ]
    tokens, unknown = tokenizer(texts), tokenizer.hf.unk_token_id
    lost = tokens.sequences.ids == unknown if unknown is not None else tokens.sequences.ids < 0
    share = float(lost.mean()) if len(lost) else 0.0
    if share <= UNKNOWN:
        return ""
    owners = tokens.owners()
    counts = Counter(
        character
        for text, start, end in zip(owners[lost], tokens.start[lost], tokens.end[lost], strict=True)
        for character in texts[text][start:end]
    )
    alone = [character for character, _ in counts.most_common(200) if unknown in tokenizer([character]).sequences.ids]
    named = " ".join(alone[:SHOWN]) or "words too long or of characters that it knows only apart"
    return f"{share:.0%} of the texts' tokens are unknown to the tokenizer and carry nothing; commonest: {named}"


def _some_tokens(encoder: "PreTrainedModel", tokenizer: Tokenizer, count: int = 8) -> Tensor:
    """[1, count + special tokens] different ids, none special."""
    special = {*tokenizer.hf.all_special_ids, getattr(encoder.config, "pad_token_id", None)}
    ids = [token for token in sorted(tokenizer.hf.get_vocab().values()) if token not in special]
    check(len(ids) > count, "the tokenizer knows hardly a token")
    chosen = [ids[i * (len(ids) - 1) // count] for i in range(count)]
    return torch.tensor([[*tokenizer.prefix, *chosen, *tokenizer.suffix]])


def _with_other_ends(tokens: Tensor) -> list[tuple[Tensor, slice]]:
    """The same with another last token and with another first one, each beside the tokens that stay."""
    last, first = tokens.clone(), tokens.clone()
    last[0, -1] = tokens[0, 2]
    first[0, 0] = tokens[0, 2]
    return [(last, slice(0, -1)), (first, slice(1, None))]


@torch.no_grad()
def _states(encoder: "PreTrainedModel", ids: Tensor) -> "Tensor | Exception":
    """[1, tokens, width], or what kept the encoder from giving it."""
    try:
        states: Tensor = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # of whatever kind a family raises
        return error
    return states


@torch.no_grad()
def check_positions(encoder: "PreTrainedModel", tokenizer: Tokenizer, max_length: int, place: str) -> None:
    """Raises UserError with the number of tokens that the encoder reads, where it is below `max_length`."""
    tokens = _some_tokens(encoder, tokenizer)
    repeated = tokens.repeat(1, max_length // tokens.shape[1] + 1)[:, :max_length]
    failure = _states(encoder, repeated)
    if not isinstance(failure, Exception):
        return
    fits, fails = 0, max_length
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if isinstance(_states(encoder, repeated[:, :middle]), Exception):
            fails = middle
        else:
            fits = middle
    raise UserError(f"{place}: it reads {fits} tokens, fewer than --max-length {max_length}; write --max-length {fits}")


def _freeze_unused(encoder: "PreTrainedModel", tokens: Tensor) -> None:
    """Weights without a gradient, of a pooler or of another task, are taken out of training."""
    with torch.enable_grad():
        states = encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        torch.autograd.backward(states.sum())
    for parameter in encoder.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
