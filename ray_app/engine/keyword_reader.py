"""Keywords that nobody labeled: what a KeywordAttention looks for, made from the keywords' own texts.

In: vectors of a keyword's name, guideline and cue words. Out: its queries, by a map that was learned over the keywords
of several taxonomies (`training/unlabeled/aspects.py`); with them a head for a taxonomy that was never trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.engine import weight_storage
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordAttention
from ray_app.engine.token_states import token_states
from ray_app.engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXACT, SIGNS = (-2, -1, 0, 1, 2), (-1, 0, 1)  # the scales that it scores on
SCORES = len(EXACT) + len(SIGNS)
LENGTH = 0.5  # of a keyword's vector, per the square root of its width
PHRASE_TOKENS = 64  # of a keyword's text that are read


class KeywordReader(nn.Module):
    """Vectors of keywords [keywords, hidden] -> their queries over token states, standardized as `attention` does.

    Outputs per keyword: the logits of EXACT, those of SIGNS, and whether the review speaks of it.
    """

    def __init__(self, hidden: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.attention = KeywordAttention(1, hidden, SCORES + 1, dropout)
        self.attention.query.requires_grad_(False)  # made from texts, as is `own`
        self.attention.own.requires_grad_(False)
        self.center = nn.Parameter(torch.zeros(hidden))
        self.names, self.feels = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.own = nn.Linear(hidden, hidden)
        for linear in (self.names, self.feels, self.attention.key):
            nn.init.eye_(linear.weight)  # at first a keyword looks for what resembles its texts
        nn.init.zeros_(self.attention.key.bias)

    def looks_for(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """[keywords * 2, hidden] queries, and [keywords, hidden] what is the keyword's own."""
        scaled = F.normalize(vectors - self.center, dim=-1) * LENGTH * vectors.shape[-1] ** 0.5
        return torch.stack([self.names(scaled), self.feels(scaled)], 1).flatten(0, 1), self.own(scaled)

    def forward(self, states: Tensor, mask: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [reviews, keywords, SCORES + 1] and the logarithm of the attention [reviews, keywords, 2, length] of
        standardized states [reviews, length, hidden]."""
        return self.attention.read(states, mask, *self.looks_for(vectors))

    @torch.no_grad()
    def head(self, vectors: Sequence[Tensor], scores: Sequence[int]) -> KeywordAttention:
        """A head of the joint form for keywords with these vectors of phrases, and a scale that `outputs_of` knows."""
        query, own = self.looks_for(torch.stack([phrases.mean(0) for phrases in vectors]))
        made = KeywordAttention(len(own), own.shape[1], len(scores) + 1, self.attention.dropout.p)
        rows = [*outputs_of(scores), SCORES]
        state = self.attention.state_dict() | {"query": query, "own": own}
        made.load_state_dict(state | {name: state[name][rows] for name in ("out.weight", "out.bias")})
        return made.eval()


def outputs_of(scores: Sequence[int]) -> list[int]:
    """Positions among the outputs of a scale's logits; none where the scale lies within neither SIGNS nor EXACT."""
    if set(scores) <= set(SIGNS):
        return [len(EXACT) + SIGNS.index(score) for score in scores]
    return [EXACT.index(score) for score in scores] if set(scores) <= set(EXACT) else []


def phrases(keyword: Keyword) -> list[str]:
    """What says what a keyword is, its name first."""
    return list(filter(None, (keyword.name, keyword.belongs, *keyword.cues)))


def phrase_vectors(
    encoder: "PreTrainedModel",
    head: KeywordAttention,
    tokenizer: Tokenizer,
    taxonomy: Taxonomy,
    device: Device,
    batching: str = "auto",
) -> list[Tensor]:
    """Per keyword [phrases, hidden] the mean of each phrase's token states, as `head` standardizes them.

    `batching`: how the encoder may be run.
    """
    texts = [phrase for keyword in taxonomy.keywords for phrase in phrases(keyword)]
    sequences = tokenizer.with_special_tokens(tokenizer(texts).sequences, PHRASE_TOKENS)
    inner = slice(len(tokenizer.prefix), -len(tokenizer.suffix) or None)
    states = token_states(encoder, sequences, tokenizer.pad_id, device, batching=batching)
    means = torch.stack([head.standardized(one[inner].cpu()).mean(0) for one in states])
    return list(torch.split(means, [len(phrases(keyword)) for keyword in taxonomy.keywords]))


def save(reader: KeywordReader, file: Path) -> None:
    """Writes its weights in int8, see `weight_storage`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    weight_storage.write(reader.state_dict(), file.parent, file.name)


def load(file: Path) -> KeywordReader:
    """What `save` wrote, in fp32 and not in training."""
    state = weight_storage.read(file.parent, file.name)
    reader = KeywordReader(len(state["center"]))
    reader.load_state_dict(state)
    return reader.eval()
