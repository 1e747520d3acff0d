"""Batched generation by any causal language model, the same as one prompt at a time.

In: prompts as token ids. Out: what the model writes after each, by itself: never a look at the reference. Prompts of
similar length run together, padded on the left; transformers' own `generate` counts positions from each prompt's first
token. Greedy by default; sampling draws each row's chances from a generator of its own, so that a row's text depends on
the seed and on nothing else in its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_app.engine.batching import batches
from ray_app.errors import check
from ray_app.lm.constrained_decoding import Grammar, State
from ray_app.lm.token_bytes import TokenBytes


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a next token is chosen and when to stop. Temperature 0 is greedy; `stop` is a text that ends an answer."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: str = ""


@dataclass(frozen=True)
class Generation:
    """What a model wrote after a prompt, without what ended it, and how many tokens that took."""

    text: str
    tokens: int


class Generator:
    """A model and its tokenizer. Call it with n prompts (lists of ids) to get n `Written`, in the order given.

    `batch_tokens`: prompts and what follows them, padding included, that run together at most.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int = 8_192) -> None:
        from transformers import GenerationConfig

        self.model, self.batch_tokens, self.pieces = model, batch_tokens, TokenBytes(tokenizer)
        self.pad: int = tokenizer.pad_token_id
        own = model.generation_config.eos_token_id
        self.ends = {self.pad, tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        model.generation_config = GenerationConfig()  # what a model's authors like to sample with is not greedy

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        grammar: Grammar | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Generation]:
        """`grammar`: allow only what it lets through; `rows`: numbers that each row's chances are drawn by."""
        check(
            grammar is None or grammar.shortest <= decoding.max_new_tokens,
            f"--max-new-tokens {decoding.max_new_tokens}: too few for the shortest label, which takes "
            f"{grammar.shortest if grammar else 0} tokens with the end",
        )
        lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        check(lengths.all(), "a prompt without a single token: begin the template with some text")
        numbers = np.arange(len(prompts)) if rows is None else np.asarray(rows)
        written: list[Generation] = [Generation("", 0)] * len(prompts)
        for chosen in batches(lengths + decoding.max_new_tokens, self.batch_tokens):
            ids = self._run([prompts[i] for i in chosen], decoding, grammar, numbers[chosen])
            for i, row in zip(chosen, ids, strict=True):
                written[i] = self._written(row, decoding.stop, grammar)
        return written

    @torch.inference_mode()
    def _run(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, grammar: Grammar | None, rows: Any
    ) -> list[list[int]]:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        width = max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        ends = self.ends if grammar is None else self.ends | set(grammar.ends.tolist())
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens, do_sample=False, pad_token_id=self.pad, eos_token_id=sorted(ends)
        )
        choices: list[Any] = [] if grammar is None else [_GrammarMask(grammar, width, decoding.max_new_tokens)]
        if decoding.temperature:
            choices.append(_GumbelSampling(decoding, rows))
        found = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(choices),
            stopping_criteria=StoppingCriteriaList([_Stop(self.pieces, decoding.stop)] if decoding.stop else []),
        )
        written: list[list[int]] = found[:, width:].tolist()
        return written

    def _written(self, ids: list[int], stop: str, grammar: Grammar | None) -> Generation:
        ends = self.ends if grammar is None else self.ends | set(grammar.ends.tolist())
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = self.pieces.spelled(ids[:length]).decode("utf-8", errors="replace")
        return Generation(text.partition(stop)[0] if stop else text, length)


class _GrammarMask:
    """A logits processor that leaves each row only what the grammar allows it next."""

    def __init__(self, grammar: Grammar, width: int, max_new_tokens: int) -> None:
        self.grammar, self.width, self.room = grammar, width, max_new_tokens
        self.states: list[State | None] = []

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        done = ids.shape[1] - self.width
        if done:
            pairs = zip(self.states, ids[:, -1].tolist(), strict=True)
            self.states = [state and self.grammar.after(state, token) for state, token in pairs]
        else:
            self.states = [State()] * len(ids)
        masked = torch.full_like(scores, -torch.inf)
        for i, state in enumerate(self.states):
            allowed = self.grammar.ends if state is None else self.grammar.allowed(state, self.room - done)
            places = torch.from_numpy(allowed).to(scores.device)
            masked[i, places] = scores[i, places]
        return masked


class _GumbelSampling:
    """A logits processor that makes the largest score a draw: temperature, nucleus, then Gumbel noise.

    The largest of log p + Gumbel noise is distributed as p (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030).
    """

    def __init__(self, decoding: Decoding, rows: Any) -> None:
        from transformers import TopPLogitsWarper

        self.temperature = decoding.temperature
        self.nucleus = TopPLogitsWarper(decoding.top_p) if decoding.top_p < 1 else None
        self.draws = [np.random.default_rng((decoding.seed, int(row))) for row in rows]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / self.temperature
        scores = self.nucleus(ids, scores) if self.nucleus else scores
        noise = np.stack([draw.gumbel(size=scores.shape[1]) for draw in self.draws])
        return scores + torch.from_numpy(noise.astype(np.float32)).to(scores.device)


class _Stop:
    """A stopping criterion: the text of a row holds `stop`, wherever tokens begin and end."""

    def __init__(self, pieces: TokenBytes, stop: str) -> None:
        self.pieces, self.stop = pieces, stop.encode()
        self.ends: list[bytes] = []

    def __call__(self, ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.ends = self.ends or [b""] * len(ids)
        tails = [end[1 - len(self.stop) :] if len(self.stop) > 1 else b"" for end in self.ends]
        self.ends = [tail + self.pieces[token] for tail, token in zip(tails, ids[:, -1].tolist(), strict=True)]
        return torch.tensor([self.stop in end for end in self.ends], device=ids.device)
