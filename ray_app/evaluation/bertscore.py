"""BERTScore of pairs of texts, over any encoder (Zhang et al. 2020, arXiv:1904.09675): P, R and F1 a pair.

In: references and generated texts, an encoder (default: the shipped `starter`). Out: [n, 3]. Each token of one text is
matched with the token of the other whose vector is nearest by cosine; precision is the mean over generated tokens,
recall over reference tokens. Conventions: the encoder's last layer; every token weighs the same (no idf); no rescaling;
special tokens are left out on both sides, as in the paper's formula (bert-score lets words be matched with them), and
so is padding. A text longer than the encoder reads is cut. Two texts without tokens are equal: 1; one without any: 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ray_app.arrays import Floats
from ray_app.engine.batching import batches, padded
from ray_app.engine.device import Device
from ray_app.engine.encoder import STARTER, load_encoder
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer

PAIRS = 512  # whose token vectors are held at a time


class BertScore:
    """An encoder and its tokenizer. Call it with references and generated texts, n each, to get [n, 3]."""

    def __init__(self, model: str, placement: Device) -> None:
        loaded, tokenizer = load_encoder(str(STARTER) if model == "starter" else model)
        self.tokenizer, self.placement = Tokenizer(tokenizer), placement
        self.encoder: Any = loaded.to(placement.device).eval()
        config: Any = self.encoder.config
        behind = (
            config.pad_token_id + 1 if "roberta" in config.model_type else 0
        )  # where that family counts positions from
        self.max_length = int(getattr(config, "max_position_embeddings", 512)) - behind

    def __call__(self, references: Sequence[str], generated: Sequence[str]) -> Floats:
        found = np.zeros((len(references), 3), np.float32)
        for start in range(0, len(references), PAIRS):
            part = slice(start, start + PAIRS)
            texts = {text: i for i, text in enumerate(dict.fromkeys([*references[part], *generated[part]]))}
            vectors = self.vectors(list(texts))
            for i, (meant, said) in enumerate(zip(references[part], generated[part], strict=True), start):
                found[i] = match(vectors[texts[meant]], vectors[texts[said]])
        return found

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> list[Tensor]:
        """Per text [tokens, width] vectors of length 1, without special tokens; the same whatever its batch."""
        tokens = (
            self.tokenizer([text.strip() for text in texts])
            .cut(self.tokenizer.max_review_tokens(self.max_length))
            .sequences
        )
        wrapped = self.tokenizer.with_special_tokens(tokens, self.max_length)
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        for rows in batches(wrapped.lengths, self.placement.token_budget):
            for i, vectors in zip(rows, self._run(wrapped.take(rows), tokens.lengths[rows].tolist()), strict=True):
                found[i] = vectors
        return found

    def _run(self, batch: Sequences, lengths: Sequence[int]) -> list[Tensor]:
        ids, mask = (tensor.to(self.placement.device) for tensor in padded(batch, self.tokenizer.pad_id))
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        start = len(self.tokenizer.prefix)
        return [F.normalize(row[start : start + n].float(), dim=-1) for row, n in zip(hidden, lengths, strict=True)]


def match(meant: Tensor, said: Tensor) -> tuple[float, float, float]:
    """P, R, F1 of two texts' unit vectors [tokens, width]."""
    if not len(meant) or not len(said):
        same = float(len(meant) == len(said))
        return same, same, same
    cosines = said @ meant.T
    precision, recall = float(cosines.max(1).values.mean()), float(cosines.max(0).values.mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total > 0 else 0.0
