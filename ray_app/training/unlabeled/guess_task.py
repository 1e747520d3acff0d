"""The training task of a first guess: reviews that nobody labeled, and where the keywords' words stand in them.

In: a head for a taxonomy, made from its texts, and reviews. Out: a GuessTask for `loop.train_model`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ray_app.arrays import Flags, Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import FEELS, NAMES, KeywordAttention
from ray_app.engine.token_states import padded_states, token_states
from ray_app.engine.tokenizer import Tokenizer
from ray_app.evaluation.metrics import best_micro_f1, tune_thresholds
from ray_app.training.joined_reviews import tokens_of
from ray_app.training.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DOUBT = 0.05  # how often a cue word may mislead, or be missing
NOWHERE = np.zeros(0, np.int64)
EVIDENCE = 0.3  # weight of drawing attention onto the cue words


@dataclass(frozen=True, kw_only=True)
class GuessTask:
    """A `loop.TrainingTask` in which a review is a row.

    Args:
        states: per review [tokens, hidden].
        hits: [reviews, keywords] whether a review has a keyword's name or one of its cue words.
        tokens: by review and keyword of `hits`, the positions of those words' tokens among the states.
        feelings: [reviews, keywords, scores] what the untrained head says, and
        felt: per review [keywords, tokens] where it looks for it: both are to stay so.
    """

    states: Sequence[Tensor]
    hits: Flags
    tokens: dict[tuple[int, int], Ints]
    feelings: Tensor
    felt: Sequence[Tensor]
    taxonomy: Taxonomy
    name = "guess"

    @property
    def unheard(self) -> list[str]:
        """Keywords none of whose words occurs."""
        return [name for name, hits in zip(self.taxonomy.names, self.hits.T, strict=True) if not hits.any()]

    @cached_property
    def lengths(self) -> Ints:
        """[n] tokens of every row."""
        return np.array([len(one) for one in self.states], np.int64)

    @property
    def terms(self) -> Ints:
        """[n] a term per keyword that is heard, and one for all."""
        return np.asarray(self.hits.sum(1) + 1, np.int64)

    def begin_epoch(self, epoch: int) -> None:
        """Rows stay as they are."""

    def parts(self, model: nn.Module, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """All of it learns alike."""
        return ((model, 1.0),)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these rows."""
        states, mask = padded_states([self.states[row] for row in rows], device)
        logits, attention = model(states, mask)
        grid = logits.float().view(len(rows), len(self.taxonomy.names), -1)
        heard = torch.from_numpy(self.hits[rows]).to(device, torch.float32)
        wanted = heard * (1 - 2 * DOUBT) + DOUBT
        total = F.binary_cross_entropy_with_logits(grid[:, :, -1], wanted, reduction="sum")
        feelings = self.feelings[rows].to(device)
        total = total - (heard[:, :, None] * feelings * grid[:, :, :-1].log_softmax(-1)).sum()
        felt = pad_sequence([self.felt[row].T for row in rows], batch_first=True).transpose(1, 2).to(device)
        total = total - EVIDENCE * (heard[:, :, None] * felt * attention[:, :, FEELS]).sum()
        drawn: Tensor = total + EVIDENCE * self._evidence(rows, attention[:, :, NAMES])
        return drawn

    def _evidence(self, rows: Ints, attention: Tensor) -> Tensor:
        """The summed -log of the attention [rows, keywords, length] that lies on the keywords' words."""
        wanted = torch.zeros(attention.shape, dtype=torch.bool)
        for i, row in enumerate(rows.tolist()):
            for keyword in np.flatnonzero(self.hits[row]).tolist():
                wanted[i, keyword, self.tokens.get((row, keyword), NOWHERE)] = True  # an overall keyword's may be none
        heard = wanted.any(2)
        wanted, kept = wanted[heard].to(attention.device), attention[heard.to(attention.device)]
        return -kept.masked_fill(~wanted, -torch.inf).logsumexp(1).clamp_min(-15.0).sum()

    def validate(self, model: KeywordAttention, device: Device) -> dict[str, float]:
        """How far it finds what the words say; nobody labeled more."""
        return {"select": round(best_micro_f1(self.hits, self.probabilities(model, device)), 4)}

    def thresholds(self, model: KeywordAttention, device: Device) -> list[float]:
        """Per keyword, tuned by the cue words' hits."""
        thresholds: list[float] = tune_thresholds(self.hits, self.probabilities(model, device)).tolist()
        return thresholds

    def probabilities(self, model: KeywordAttention, device: Device) -> Floats:
        """[reviews, keywords] of every keyword."""
        grid, _ = read_all(model, self.states, device)
        return np.asarray(grid[:, :, -1].sigmoid().numpy(), np.float32)


@torch.no_grad()
def read_all(model: KeywordAttention, states: Sequence[Tensor], device: Device) -> tuple[Tensor, list[Tensor]]:
    """[reviews, keywords, outputs] logits, and per review [keywords, tokens] how FEELS lies on its tokens."""
    model.to(device.torch_device).eval()
    logits, felt = [], []
    for at in range(0, len(states), 50):
        some = states[at : at + 50]
        found, attention = model(*padded_states(some, device.torch_device))
        logits.append(found.float().cpu())
        weights = attention[:, :, FEELS].exp().cpu()
        felt += [one[:, : len(state)].clone() for one, state in zip(weights, some, strict=True)]
    return torch.cat(logits).view(len(states), model.keywords, -1), felt


def guess_task(
    head: KeywordAttention,
    encoder: "PreTrainedModel",
    tokenizer: Tokenizer,
    taxonomy: Taxonomy,
    texts: Sequence[str],
    max_length: int,
    device: Device,
    batching: str = "auto",
) -> GuessTask:
    """Reads the texts with the encoder, which is run as `batching` says, and finds the keywords' words in them."""
    tokens = tokenizer(texts).cut(tokenizer.max_review_tokens(max_length))
    sequences = tokenizer.with_special_tokens(tokens.sequences, max_length)
    states = token_states(encoder, sequences, tokenizer.pad_id, device, batching=batching)
    hits = np.zeros((len(texts), len(taxonomy.names)), bool)
    places: dict[tuple[int, int], Ints] = {}
    for keyword, each in enumerate(taxonomy.keywords):
        for row, text in enumerate(texts):
            found = tokens_of((each.name, *each.cues), text, tokens, row)
            if len(found):
                hits[row, keyword], places[row, keyword] = True, found + len(tokenizer.prefix)
    if taxonomy.overall:
        hits[:, taxonomy.index[taxonomy.overall]] = True
    said, felt = read_all(head, states, device)
    feelings = said[:, :, :-1].softmax(-1)
    return GuessTask(states=states, hits=hits, tokens=places, feelings=feelings, felt=felt, taxonomy=taxonomy)
