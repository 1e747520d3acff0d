"""An encoder run flat: all tokens of a batch in one [tokens, hidden] matrix, so that no padding is computed.

In: an EncoderClassifier of the BERT, RoBERTa or ELECTRA family, and batches of sequences in ascending order of length.
Out: logits. Linear layers (`linear.py`) see every token at once, attention (`attention.py`) stays within a sequence,
and where the classifier reads only the first token the last layer computes only that row. Query, key and value are one
product. Tests compare it with the stock transformers forward.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.engine.attention import Kept, Layout, choose
from ray_app.engine.device import HEAD
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.linear import DTYPES, Backend, Linear, linear
from ray_app.engine.prefix import prefix_of
from ray_app.engine.ragged import Sequences

PREFIX = prefix_of.__module__  # whose hook is a prefix, which is read; those of transformers only look
FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")


def supports(model: EncoderClassifier | KeywordScorer) -> bool:
    """True where the flat forward equals the stock one: a plain encoder of a known family with exact GELU."""
    encoder, config = model.encoder, model.encoder.config
    plain = not getattr(config, "is_decoder", False) and not getattr(config, "add_cross_attention", False)
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    known = config.model_type in FAMILIES and config.hidden_act == "gelu"
    return bool(known and plain and absolute and _weights_tell_all(encoder))


def _weights_tell_all(encoder: nn.Module) -> bool:
    """Whether an encoder computes what its weights say, which are all that is read of it. Not so where a layer is
    wrapped or replaced (an adapter, a quantized product), or where something else is called besides it."""
    prefix = prefix_of(encoder)
    modules = [module for module in encoder.modules() if module is not prefix]
    weighed = {type(module) for module in modules if hasattr(module, "weight")}
    known = all(type(module).__module__.startswith(("torch.nn.modules.", "transformers.")) for module in modules)
    hooks = [h for module in modules for h in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())]
    foreign = [hook for hook in hooks if not getattr(hook, "__module__", "").startswith(("transformers.", PREFIX))]
    return known and weighed <= {nn.Linear, nn.Embedding, nn.LayerNorm} and not foreign


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    query: Linear | None  # apart only where the last layer computes one row per sequence
    joined: Linear  # query, key and value, or key and value where query is apart
    attended: Linear
    attended_norm: _Norm
    up: Linear
    down: Linear
    norm: _Norm
    prefix: Kept | None


class _Scorer:
    """A KeywordAttention over states that lie end to end. Standardization and both projections of a key are folded into
    one product: the fit of every token to every keyword."""

    def __init__(self, head: KeywordAttention, device: torch.device, rows: Callable[[int], int]) -> None:
        def own(value: Tensor) -> Tensor:
            return value.detach().to(device, DTYPES[HEAD]).contiguous()

        width = head.query.shape[1]
        fit = head.query @ head.key.weight / math.sqrt(width) / head.spread
        bias = head.query @ head.key.bias / math.sqrt(width) - fit @ head.mean
        self.fit = linear(own(fit), own(bias), HEAD)
        self.mean, self.spread = own(head.mean), own(head.spread)
        self.keywords = head.keywords
        pooled, keyword = head.inner.weight[:, :-width], head.inner.weight[:, -width:]
        self.inner = linear(own(pooled), own(torch.zeros(len(pooled), device=pooled.device)), HEAD)
        self.own = own(head.own @ keyword.T + head.inner.bias)
        self.out = linear(own(head.out.weight), own(head.out.bias), HEAD)
        self.rows = rows

    def __call__(self, states: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """[tokens or more, hidden] -> logits [n, keywords * outputs], attention [tokens, queries of all keywords]."""
        fits = self.fit(states)
        pairs = [self._pooled(states, fits, *group) for group in layout.groups]
        pooled, attention = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        n, keywords = len(pooled), self.keywords
        flat = ((pooled - self.mean) / self.spread).view(n * keywords, -1)
        flat = F.pad(flat, (0, 0, 0, self.rows(len(flat)) - len(flat)))
        inner = self.inner(flat)[: n * keywords].view(n, keywords, -1) + self.own
        scores = F.pad(F.gelu(inner).view(n * keywords, -1), (0, 0, 0, len(flat) - n * keywords))
        return self.out(scores)[: n * keywords].view(n, -1), attention

    @staticmethod
    def _pooled(states: Tensor, fits: Tensor, _: int, token: int, n: int, size: int) -> tuple[Tensor, Tensor]:
        """[n, queries, hidden] of a group of equally long sequences, and its attention [n * length, queries]."""
        tokens = slice(token, token + n * size)
        attention = fits[tokens].view(n, size, -1).softmax(1)
        pooled = attention.transpose(1, 2) @ states[tokens].view(n, size, -1)
        return pooled, attention.flatten(0, 1)


class UnpaddedClassifier:
    """The same logits as the model it is made from, without padding."""

    def __init__(self, model: EncoderClassifier | KeywordScorer, device: torch.device, backend: Backend) -> None:
        encoder = model.encoder
        self.device, self.backend, self.pooling = device, backend, model.pooling
        self.heads = int(encoder.config.num_attention_heads)
        self.attention = choose(device, DTYPES[backend], int(encoder.config.hidden_size) // self.heads)
        self.first_position = encoder.config.pad_token_id + 1 if "roberta" in encoder.config.model_type else 0
        embeddings = encoder.embeddings
        self.words = self._own(embeddings.word_embeddings.weight)
        self.positions = self._own(embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0])
        self.norm = self._norm(embeddings.LayerNorm)
        project = getattr(encoder, "embeddings_project", None)
        self.project = self._linear(project.weight, project.bias) if project is not None else None
        prefix, layers = prefix_of(encoder), encoder.encoder.layer
        kept = [None] * len(layers) if prefix is None else [(self._own(k), self._own(v)) for k, v in prefix.layers()]
        self.kept = 0 if prefix is None else prefix.tokens
        apart = [False] * (len(layers) - 1) + [self.pooling == "first"]
        self.layers = [self._layer(*one) for one in zip(layers, kept, apart, strict=True)]
        self.scorer = self.head = None
        if isinstance(model, KeywordScorer):
            self.scorer = _Scorer(model.head, device, self.rows)
        else:
            self.head = linear(self._own(model.head.weight, HEAD), self._own(model.head.bias, HEAD), HEAD)

    def rows(self, count: int, step: int = 32) -> int:
        """How many rows to compute for `count`. On a CPU, oneDNN compiles code for each new shape of a product, so
        shapes are few: multiples of 32, or of 8 below 256."""
        step = min(step, 8 if count < 256 else step) if self.device.type == "cpu" else 1
        return -(-count // step) * step

    @torch.inference_mode()
    def __call__(self, batch: Sequences, vectors: bool = False) -> Tensor:
        """Sequences in ascending order of length -> logits [n, outputs], on the device; with `vectors` the pooled
        vector of each beside them, [n, outputs + hidden]."""
        x, layout = self._before_last(batch)
        last = self.layers[-1]
        if last.query is not None:
            assert self.head is not None
            pooled = self._first_rows(last, last.query, x, layout).float()
            logits = self.head(pooled)
        else:
            x = self._full(last, x, layout)
            pooled = self._means(x.float(), layout) if self.head is not None or vectors else x
            logits = self.head(pooled) if self.head is not None else self._scored(x, layout)[0]
        logits, pooled = logits[: len(batch)], pooled[: len(batch)]
        return torch.cat([logits, pooled], 1) if vectors else logits

    def _means(self, x: Tensor, layout: Layout) -> Tensor:
        """[n or a few more, hidden] mean of every sequence's states."""
        means = [x[at : at + n * size].view(n, size, -1).mean(1) for _, at, n, size in layout.groups]
        count = len(layout.lengths)
        return F.pad(torch.cat(means), (0, 0, 0, self.rows(count) - count))

    def _scored(self, states: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        assert self.scorer is not None, "only keywords that attend have attention"
        return self.scorer(states.float(), layout)

    @torch.inference_mode()
    def attended(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        """Of a KeywordScorer: logits, and [tokens, queries of all keywords] how attention lies on every sequence."""
        x, layout = self._before_last(batch)
        return self._scored(self._full(self.layers[-1], x, layout), layout)

    def _before_last(self, batch: Sequences) -> tuple[Tensor, Layout]:
        """[tokens or more, hidden] what the last layer reads."""
        layout = Layout(batch.lengths, self.device, self.kept)
        tokens = np.zeros((2, self.rows(len(batch.ids))), np.int32)
        tokens[0, : len(batch.ids)] = batch.ids
        tokens[1, : len(batch.ids)] = np.arange(len(batch.ids)) - np.repeat(batch.offsets[:-1], batch.lengths)
        host = torch.from_numpy(tokens)
        host = host.pin_memory() if self.device.type == "cuda" else host  # else the copy waits for all queued work
        ids, positions = host.to(self.device, non_blocking=True)
        x = self.norm(self.words[ids] + self.positions[positions + self.first_position])
        x = self.project(x) if self.project is not None else x
        for layer in self.layers[:-1]:
            x = self._full(layer, x, layout)
        return x, layout

    def _full(self, layer: _Layer, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = layer.joined(x).view(len(x), 3, self.heads, -1).unbind(1)
        return self._rest(layer, x, self.attention(q, k, v, layout, False, layer.prefix).flatten(1))

    def _first_rows(self, layer: _Layer, query: Linear, x: Tensor, layout: Layout) -> Tensor:
        """The last layer for the first token of each sequence: [n or a few more, hidden]."""
        k, v = layer.joined(x).view(len(x), 2, self.heads, -1).unbind(1)
        n = len(layout.lengths)
        first = x[F.pad(layout.first, (0, self.rows(n) - n))]
        q = query(first).view(len(first), self.heads, -1)
        return self._rest(layer, first, self.attention(q, k, v, layout, True, layer.prefix).flatten(1))

    @staticmethod
    def _rest(layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
        x = layer.attended_norm(layer.attended(mixed).add_(x))
        return layer.norm(layer.down(layer.up(x)).add_(x))

    def _layer(self, layer: Any, prefix: Kept | None, query_apart: bool) -> _Layer:
        own, out = layer.attention.self, layer.attention.output
        joined = [own.key, own.value] if query_apart else [own.query, own.key, own.value]
        return _Layer(
            query=self._linear(own.query.weight, own.query.bias) if query_apart else None,
            joined=self._linear(torch.cat([p.weight for p in joined]), torch.cat([p.bias for p in joined])),
            attended=self._linear(out.dense.weight, out.dense.bias),
            attended_norm=self._norm(out.LayerNorm),
            up=self._linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True),
            down=self._linear(layer.output.dense.weight, layer.output.dense.bias),
            norm=self._norm(layer.output.LayerNorm),
            prefix=prefix,
        )

    def _linear(self, weight: Tensor, bias: Tensor, gelu: bool = False) -> Linear:
        return linear(self._own(weight), self._own(bias), self.backend, gelu)

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        return _Norm(self._own(norm.weight), self._own(norm.bias), float(norm.eps))

    def _own(self, parameter: Tensor, backend: Backend | None = None) -> Tensor:
        return parameter.detach().to(self.device, DTYPES[backend or self.backend]).contiguous()
