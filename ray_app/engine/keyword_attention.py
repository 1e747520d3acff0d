"""The model that reads the keyword: every keyword is a query that attends over the review's token states.

In: token states of an encoder. Out: per review and keyword one logit per score, from what the keyword attended to, so
that one pass of the encoder scores every keyword. A keyword looks for two things: the words that name it, and the words
that say the feeling. States are standardized first: those of E5 and its kind all point one way, and queries would see
nothing else.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.engine.token_states import padded_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MASKED = -1e4  # of a padding token, before the softmax
NAMES, FEELS = 0, 1  # a keyword's queries: for the words that name it, for the words that say the feeling


class KeywordAttention(nn.Module):
    """Token states [reviews, length, hidden] -> logits [reviews, keywords * outputs].

    Per keyword, each of its queries pools the states by attention; two layers turn that, beside what is the keyword's
    own, into its outputs: a logit per score, and in the joint form a last one for whether the review speaks of it.
    `queries` 1 looks for one thing only.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, keywords: int, hidden: int, outputs: int, dropout: float = 0.2, queries: int = 2) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(keywords * queries, hidden) * hidden**-0.5)
        self.key = nn.Linear(hidden, hidden)
        self.own = nn.Parameter(torch.zeros(keywords, hidden))
        self.inner = nn.Linear((queries + 1) * hidden, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(2 * hidden, outputs)
        self.register_buffer("mean", torch.zeros(hidden))
        self.register_buffer("spread", torch.ones(hidden))

    @classmethod
    def of(cls, state: Mapping[str, Tensor], dropout: float = 0.2) -> "KeywordAttention":
        """A head with the weights of another one's `state_dict`."""
        (keywords, hidden), queries = state["own"].shape, len(state["query"]) // len(state["own"])
        head = cls(keywords, hidden, len(state["out.bias"]), dropout, queries)
        head.load_state_dict(dict(state))
        return head

    @property
    def keywords(self) -> int:
        """How many keywords it scores."""
        return len(self.own)

    @property
    def queries(self) -> int:
        """Queries per keyword; those of one keyword are neighbors in `query`."""
        return len(self.query) // len(self.own)

    @property
    def out_features(self) -> int:
        """Logits per review."""
        return self.keywords * self.out.out_features

    def standardized(self, states: Tensor) -> Tensor:
        """States of any shape [..., hidden] with zero mean and unit spread, as measured before training."""
        return (states - self.mean) / self.spread

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the logarithm of the attention [reviews, keywords, queries, length].

        Args:
            states: [reviews, length, hidden].
            mask: [reviews, length], 0 at padding.
        """
        logits, attention = self.read(self.standardized(states), mask, self.query, self.own)
        return logits.flatten(1), attention

    def read(self, states: Tensor, mask: Tensor, query: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [reviews, keywords, outputs] and attention of any keywords, whose `query` and `own` are like this
        head's, over standardized states."""
        fit = torch.einsum("qd,nld->nql", query, self.key(states)) / math.sqrt(states.shape[-1])
        attention = fit.float().masked_fill(mask[:, None] == 0, MASKED).log_softmax(-1)
        pooled = torch.einsum("nql,nld->nqd", attention.exp().to(states.dtype), states)
        both = torch.cat([pooled.view(len(states), len(own), -1), own.expand(len(states), -1, -1)], -1)
        logits: Tensor = self.out(self.dropout(F.gelu(self.inner(both))))
        return logits, attention.view(len(states), len(own), self.queries, -1)


class KeywordScorer(nn.Module):
    """An encoder under KeywordAttention: ids [reviews, length] -> logits [reviews, keywords * outputs]."""

    encoder: "PreTrainedModel"
    pooling = "keywords"
    batching = "auto"  # how it may be run, see `agreement.py`

    def __init__(self, encoder: "PreTrainedModel", head: KeywordAttention) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(
        self, ids: Tensor, mask: Tensor, vectors: bool = False, attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits; with `vectors` the mean of the token states beside them, as a review's vector; with `attention` also
        its logarithm [reviews, keywords, queries, length]."""
        states = padded_forward(self.encoder, ids, mask, self.batching)
        logits, weights = self.head(states, mask)
        if vectors:
            mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            logits = torch.cat([logits, mean.to(logits.dtype)], 1)
        return (logits, weights) if attention else logits
