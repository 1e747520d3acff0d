"""BERTScore of pairs of texts, over any encoder (Zhang et al. 2020, arXiv:1904.09675): P, R and F1 per pair.

In: references and hypotheses, an encoder (default: the shipped `starter`). Out: [n, 3]. Each token of one text is
matched with the token of the other whose vector is nearest by cosine; precision is the mean over hypothesis tokens,
recall over reference tokens. Conventions: the encoder's last layer; every token weighs the same (no idf); no rescaling;
special tokens are left out on both sides, as in the paper's formula (bert-score lets words be matched with them), and
so is padding. A text longer than the encoder reads is cut. Two texts without tokens are equal: 1; one without any: 0.

The package bert-score is not used because it also matches words with special tokens;
`tests/evaluation/test_bertscore.py` shows that both agree without them.
"""

from collections.abc import Sequence

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

PAIRS = 512  # whose token vectors are in memory at a time


class BertScore:
    """An encoder and its tokenizer. Call it with references and hypotheses, n each, to get [n, 3]: P, R, F1.

    Args:
        model: `starter`, a Hugging Face name or a folder.
    """

    def __init__(self, model: str, device: Device) -> None:
        encoder, tokenizer = load_encoder(str(STARTER) if model == "starter" else model)
        self.tokenizer, self.device = Tokenizer(tokenizer), device
        self.encoder = encoder.to(device.torch_device).eval()
        config = encoder.config
        # the RoBERTa family counts positions from the one behind padding
        first = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        self.max_length = int(getattr(config, "max_position_embeddings", 512)) - first

    def __call__(self, references: Sequence[str], hypotheses: Sequence[str]) -> Floats:
        scores = np.zeros((len(references), 3), np.float32)
        for start in range(0, len(references), PAIRS):
            rows = slice(start, start + PAIRS)
            position = {text: i for i, text in enumerate(dict.fromkeys([*references[rows], *hypotheses[rows]]))}
            vectors = self.vectors(list(position))
            for i, (reference, hypothesis) in enumerate(zip(references[rows], hypotheses[rows], strict=True), start):
                scores[i] = match(vectors[position[reference]], vectors[position[hypothesis]])
        return scores

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> list[Tensor]:
        """Per text [tokens, width] vectors of length 1, without special tokens; the same whatever its batch."""
        tokens = self.tokenizer([text.strip() for text in texts])
        cut = tokens.cut(self.tokenizer.max_review_tokens(self.max_length)).sequences
        wrapped = self.tokenizer.with_special_tokens(cut, self.max_length)
        result: list[Tensor] = [torch.empty(0)] * len(texts)
        for rows in batches(wrapped.lengths, self.device.token_budget):
            for i, vectors in zip(rows, self._run(wrapped.take(rows), cut.lengths[rows].tolist()), strict=True):
                result[i] = vectors
        return result

    def _run(self, batch: Sequences, lengths: Sequence[int]) -> list[Tensor]:
        ids, mask = (tensor.to(self.device.torch_device) for tensor in padded(batch, self.tokenizer.pad_id))
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        start = len(self.tokenizer.prefix)
        return [F.normalize(row[start : start + n].float(), dim=-1) for row, n in zip(hidden, lengths, strict=True)]


def match(reference: Tensor, hypothesis: Tensor) -> tuple[float, float, float]:
    """P, R, F1 of two texts' unit vectors [tokens, width]."""
    if not len(reference) or not len(hypothesis):
        same = float(len(reference) == len(hypothesis))
        return same, same, same
    cosines = hypothesis @ reference.T
    precision, recall = float(cosines.max(1).values.mean()), float(cosines.max(0).values.mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total > 0 else 0.0
