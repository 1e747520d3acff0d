"""What a KeywordAttention starts from: how the encoder's token states lie, and what the keywords' own texts look like.

In: an untouched encoder, training texts, the taxonomy. Out: the head with its standardization measured and its queries
set, so that a keyword of a new taxonomy does not start from noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.token_states import token_states
from ray_app.engine.tokenizer import Tokenizer

TEXTS = 400  # whose token states are measured
SHARPNESS = 2.0  # length of a query: a token fits it by about this times the cosine between them


@torch.no_grad()
def initialize_queries(
    model: KeywordScorer,
    texts: Sequence[str],
    taxonomy: Taxonomy,
    tokenizer: Tokenizer,
    max_length: int,
    device: Device,
) -> None:
    """Sets the head's mean and spread from up to TEXTS texts, and its queries from the keywords' texts."""
    head = model.head.to(device.torch_device)
    states = torch.cat(_states(model, texts[:: max(1, len(texts) // TEXTS)][:TEXTS], tokenizer, max_length, device))
    head.mean.copy_(states.mean(0))
    head.spread.copy_(states.std(0) + 1e-6)
    keyword_states = _states(model, [keyword_text(k) for k in taxonomy.keywords], tokenizer, max_length, device)
    queries = torch.stack([head.standardized(rows).mean(0) for rows in keyword_states])
    queries = queries - queries.mean(0)  # what sets a keyword apart from the others
    queries = SHARPNESS * torch.nn.functional.normalize(queries, dim=1)
    head.query.copy_(
        queries.repeat_interleave(head.queries, 0)
    )  # what a keyword's queries look for differs by learning
    torch.nn.init.eye_(head.key.weight)
    torch.nn.init.zeros_(head.key.bias)


def keyword_text(keyword: Keyword) -> str:
    """A keyword as its guideline describes it."""
    return " ".join(filter(None, (keyword.name, keyword.belongs, *keyword.cues)))


def _states(
    model: KeywordScorer, texts: Sequence[str], tokenizer: Tokenizer, max_length: int, device: Device
) -> list[Tensor]:
    """Per text its token states [tokens, hidden]."""
    sequences = tokenizer.with_special_tokens(tokenizer(texts).sequences, max_length)
    return token_states(model.encoder, sequences, tokenizer.pad_id, device, batching=model.batching)
