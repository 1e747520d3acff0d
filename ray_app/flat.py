"""An encoder run flat: all tokens of a batch in one [tokens, hidden] matrix, so that no padding is computed.

In: an EncoderClassifier of the BERT, RoBERTa or ELECTRA family, and batches of sequences in ascending order of length.
Out: logits. Linear layers see every token at once, attention runs per group of equally long sequences, and where the
classifier reads only the first token the last layer computes only that row. Query, key and value are one product; on a
CPU weights are prepacked for oneDNN and GELU is fused into its product. The stock transformers forward is the oracle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ray_app.model import EncoderClassifier
from ray_app.sequences import Sequences

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")
Linear = Callable[[Tensor], Tensor]
Group = tuple[int, int, int]  # first token, sequences, length of each


def supports(model: EncoderClassifier) -> bool:
    """True where the flat forward equals the stock one: a plain encoder of a known family with exact GELU."""
    config: Any = model.encoder.config
    plain = not getattr(config, "is_decoder", False) and not getattr(config, "add_cross_attention", False)
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    return config.model_type in FAMILIES and config.hidden_act == "gelu" and plain and absolute


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    query: Linear
    key_value: Linear
    query_key_value: Linear
    attended: Linear
    attended_norm: _Norm
    up: Linear
    down: Linear
    norm: _Norm


class FlatClassifier:
    """The same answers as the model it was made from, without padding."""

    def __init__(self, model: EncoderClassifier, device: torch.device, dtype: torch.dtype) -> None:
        encoder: Any = model.encoder
        self.device, self.dtype, self.pooling = device, dtype, model.pooling
        self.heads = int(encoder.config.num_attention_heads)
        self.first_position = encoder.config.pad_token_id + 1 if "roberta" in encoder.config.model_type else 0
        embeddings = encoder.embeddings
        self.words = self._own(embeddings.word_embeddings.weight)
        self.positions = self._own(embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0])
        self.norm = self._norm(embeddings.LayerNorm)
        project = getattr(encoder, "embeddings_project", None)
        self.project = self._linear(project.weight, project.bias) if project is not None else None
        self.layers = [self._layer(layer) for layer in encoder.encoder.layer]
        self.head = (self._own(model.head.weight), self._own(model.head.bias))

    @torch.inference_mode()
    def __call__(self, batch: Sequences) -> Tensor:
        """Sequences in ascending order of length -> logits [n, outputs]."""
        lengths = batch.lengths
        place = np.arange(len(batch.ids)) - np.repeat(batch.offsets[:-1], lengths) + self.first_position
        groups = _groups(batch)
        ids, positions = (torch.from_numpy(a).to(self.device, non_blocking=True) for a in (batch.ids, place))
        x = self.norm(self.words[ids] + self.positions[positions])
        x = self.project(x) if self.project is not None else x
        for layer in self.layers[:-1]:
            x = self._full(layer, x, groups)
        first = self.pooling == "first"
        x = self._first_rows(self.layers[-1], x, groups, batch) if first else self._full(self.layers[-1], x, groups)
        pooled = x if first else torch.cat([x[at : at + n * size].view(n, size, -1).mean(1) for at, n, size in groups])
        return F.linear(pooled, *self.head)

    def _full(self, layer: _Layer, x: Tensor, groups: list[Group]) -> Tensor:
        joined = layer.query_key_value(x)
        mixed = torch.empty_like(x)
        for at, n, size in groups:
            q, k, v = joined[at : at + n * size].view(n, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            mixed[at : at + n * size].view(n, size, self.heads, -1).copy_(out)
        return self._rest(layer, x, mixed)

    def _first_rows(self, layer: _Layer, x: Tensor, groups: list[Group], batch: Sequences) -> Tensor:
        """The last layer for the first token of each sequence: [n, hidden]."""
        joined = layer.key_value(x)
        first = x[torch.from_numpy(batch.offsets[:-1]).to(self.device)]
        query = layer.query(first)
        mixed, row = torch.empty_like(first), 0
        for at, n, size in groups:
            k, v = joined[at : at + n * size].view(n, size, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
            q = query[row : row + n].view(n, 1, self.heads, -1).transpose(1, 2)
            mixed[row : row + n] = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1)
            row += n
        return self._rest(layer, first, mixed)

    @staticmethod
    def _rest(layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
        x = layer.attended_norm(layer.attended(mixed).add_(x))
        return layer.norm(layer.down(layer.up(x)).add_(x))

    def _layer(self, layer: Any) -> _Layer:
        own, out = layer.attention.self, layer.attention.output
        weights, biases = ([getattr(m, name) for m in (own.query, own.key, own.value)] for name in ("weight", "bias"))
        return _Layer(
            query=self._linear(weights[0], biases[0]),
            key_value=self._linear(torch.cat(weights[1:]), torch.cat(biases[1:])),
            query_key_value=self._linear(torch.cat(weights), torch.cat(biases)),
            attended=self._linear(out.dense.weight, out.dense.bias),
            attended_norm=self._norm(out.LayerNorm),
            up=self._linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True),
            down=self._linear(layer.output.dense.weight, layer.output.dense.bias),
            norm=self._norm(layer.output.LayerNorm),
        )

    def _linear(self, weight: Tensor, bias: Tensor, gelu: bool = False) -> Linear:
        w, b = self._own(weight), self._own(bias)
        onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if onednn and self.device.type == "cpu" and self.dtype == torch.float32:
            packed = torch.ops.mkldnn._reorder_linear_weight(w)
            after: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, b, *after)
        return (lambda x: F.gelu(F.linear(x, w, b))) if gelu else (lambda x: F.linear(x, w, b))

    def _norm(self, norm: Any) -> _Norm:
        return _Norm(self._own(norm.weight), self._own(norm.bias), float(norm.eps))

    def _own(self, parameter: Tensor) -> Tensor:
        return parameter.detach().to(self.device, self.dtype).contiguous()


def _groups(batch: Sequences) -> list[Group]:
    """Runs of equally long sequences."""
    lengths = batch.lengths
    starts = np.flatnonzero(np.concatenate([[True], lengths[1:] != lengths[:-1]]))
    counts = np.diff(np.append(starts, len(lengths)))
    return [(int(batch.offsets[s]), int(n), int(lengths[s])) for s, n in zip(starts, counts, strict=True)]
