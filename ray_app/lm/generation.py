"""Batched generation by any causal language model, with the same result as one prompt at a time.

In: prompts as token ids. Out: the text that the model writes after each; it never sees a reference. Prompts of similar
length run together, padded on the left; transformers' own `generate` counts positions from each prompt's first token.
Greedy by default; sampling draws each row's noise from a random generator of its own, so that a row's text depends on
the seed and the row's number, and not on the rest of its batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ray_app.arrays import Ints
from ray_app.engine.batching import batches
from ray_app.errors import check
from ray_app.lm.constrained_decoding import Grammar, State
from ray_app.lm.token_bytes import TokenBytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the next token is chosen and when to stop. Temperature 0 is greedy; `stop` is a text that ends an answer."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: str = ""


@dataclass(frozen=True)
class Generation:
    """The text that a model wrote after a prompt, without the token or text that ended it, and its tokens."""

    text: str
    tokens: int


class Generator:
    """A model and its tokenizer. Call it with n prompts (lists of ids) to get n `Generation`s, in the order given.

    Args:
        batch_tokens: the most tokens in a batch: prompts, answers and padding.
        ends: ids that end a text, beside the model's own.
        spelled: special tokens, name -> id, whose names a text shows; of others it shows nothing.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        batch_tokens: int = 8_192,
        ends: Iterable[int] = (),
        spelled: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        from transformers import GenerationConfig

        self.model, self.batch_tokens, self.pieces = model, batch_tokens, TokenBytes(tokenizer)
        for name, i in spelled.items():
            self.pieces.bytes[i] = name.encode()
        self.pad: int = tokenizer.pad_token_id
        own = model.generation_config.eos_token_id
        self.ends = {self.pad, tokenizer.eos_token_id, *ends, *(own if isinstance(own, list) else [own])} - {None}
        model.generation_config = GenerationConfig()  # a model's own defaults may sample or penalize repetition

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        grammar: Grammar | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Generation]:
        """Generates.

        Args:
            prompts: token ids, one token at least.
            grammar: allows nothing but its own texts.
            rows: [n] numbers that seed each row's sampling; default: its position.
        Raises: UserError where `max_new_tokens` cannot hold the shortest text of the grammar.
        """
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
                written[i] = self._generation(row, decoding.stop, grammar)
        return written

    @torch.inference_mode()
    def _run(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, grammar: Grammar | None, rows: Ints
    ) -> list[list[int]]:
        """The ids that follow each prompt of one batch, padded to one length."""
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        width = max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            pad_token_id=self.pad,
            eos_token_id=sorted(self._ends(grammar)),
        )
        processors: list[_GrammarMask | _GumbelSampling] = []
        if grammar is not None:
            processors.append(_GrammarMask(grammar, width, decoding.max_new_tokens))
        if decoding.temperature:
            processors.append(_GumbelSampling(decoding, rows))
        output = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([_Stop(self.pieces, decoding.stop)] if decoding.stop else []),
        )
        written: list[list[int]] = output[:, width:].tolist()
        return written

    def _generation(self, ids: list[int], stop: str, grammar: Grammar | None) -> Generation:
        ends = self._ends(grammar)
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = self.pieces.spelled(ids[:length]).decode("utf-8", errors="replace")
        return Generation(text.partition(stop)[0] if stop else text, length)

    def _ends(self, grammar: Grammar | None) -> set[int]:
        """Ids that end a text."""
        return self.ends if grammar is None else self.ends | set(grammar.ends.tolist())


class _GrammarMask:
    """A logits processor that masks all tokens but those that the grammar allows each row next."""

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
            tokens = torch.from_numpy(allowed).to(scores.device)
            masked[i, tokens] = scores[i, tokens]
        return masked


class _GumbelSampling:
    """A logits processor that turns greedy choice into sampling: temperature, nucleus, then Gumbel noise.

    The largest of log p + Gumbel noise is distributed as p (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030).
    """

    def __init__(self, decoding: Decoding, rows: Ints) -> None:
        from transformers import TopPLogitsWarper

        self.temperature = decoding.temperature
        self.nucleus = TopPLogitsWarper(decoding.top_p) if decoding.top_p < 1 else None
        self.generators = [np.random.default_rng((decoding.seed, int(row))) for row in rows]

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / self.temperature
        scores = self.nucleus(ids, scores) if self.nucleus else scores
        noise = np.stack([generator.gumbel(size=scores.shape[1]) for generator in self.generators])
        return scores + torch.from_numpy(noise.astype(np.float32)).to(scores.device)


class _Stop:
    """A stopping criterion: the text of a row holds `stop`, whatever the bounds of its tokens."""

    def __init__(self, pieces: TokenBytes, stop: str) -> None:
        self.pieces, self.stop = pieces, stop.encode()
        self.ends: list[bytes] = []

    def __call__(self, ids: Tensor, scores: object, **_: object) -> Tensor:
        self.ends = self.ends or [b""] * len(ids)
        tails = [end[1 - len(self.stop) :] if len(self.stop) > 1 else b"" for end in self.ends]
        self.ends = [tail + self.pieces[token] for tail, token in zip(tails, ids[:, -1].tolist(), strict=True)]
        return torch.tensor([self.stop in end for end in self.ends], device=ids.device)
