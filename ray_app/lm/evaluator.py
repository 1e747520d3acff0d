"""Evaluates a causal language model on prompts with references.

In: rows of INPUT_COLUMNS (prompt, completion, and another row's completion, in pieces). Out: the same rows with
RESULT_COLUMNS:
the model's loss on the true completion, the text it generates from the prompt alone, and BLEU, ROUGE and BERTScore of
four comparisons, which give the range that these figures can have:

    model      the generated text with the row's reference
    shuffled   the generated text with another row's reference: what any answer would get
    unrelated  another row's reference with the row's reference: what a person's answer to something else gets
    reference  the reference with itself: the maximum
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ray_app.arrays import Floats, Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.device import choose_device
from ray_app.errors import check
from ray_app.evaluation.bertscore import BertScore
from ray_app.evaluation.text_metrics import overlaps, split_units
from ray_app.lm import causal_lm, constrained_decoding, virtual_tokens
from ray_app.lm.constrained_decoding import Grammar
from ray_app.lm.encoding import cut_prompt, encode
from ray_app.lm.generation import Decoding, Generation, Generator
from ray_app.lm.next_token import row_losses
from ray_app.lm.prompt_tokens import PromptTokenizer, Text
from ray_app.lm.templates import Template, few_shot
from ray_app.lm.token_bytes import TokenBytes

Side = TypeVar("Side")
log = logging.getLogger(__name__)
COMPARISONS = ("model", "shuffled", "unrelated", "reference")
OVERLAPS, BERT = 13, 3  # how many numbers `text_metrics.overlaps` and BERTScore give
INPUT_COLUMNS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("prompt", pa.list_(pa.string())),
        ("completion", pa.list_(pa.string())),
        ("other", pa.list_(pa.string())),
    ]
)
RESULT_COLUMNS = [
    ("reference", pa.string()),
    ("generated", pa.string()),
    ("completion_generated", pa.string()),
    ("loss", pa.float64()),  # summed over the tokens of the row that count
    ("loss_tokens", pa.int64()),
    ("prompt_cut", pa.bool_()),
    ("new_tokens", pa.int64()),
    ("seconds", pa.float64()),  # the row's share of the time its batches took to generate
    ("cpu_seconds", pa.float64()),
    ("sums", pa.list_(pa.float64())),  # [comparisons, OVERLAPS + BERT] flat
]


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """How a model is evaluated.

    `limit`: tokens of prompt and answer together, 0 for all that the model reads. `bertscore`: an encoder, or empty.
    """

    model: str
    template: Template
    taxonomy: Taxonomy | None
    decoding: Decoding
    constrained: bool
    limit: int = 0
    loss_on: str = "answer"
    unit: str = "char"
    bertscore: str = "starter"
    batch_tokens: int = 0
    device: str = "auto"
    bf16: bool = False


class Speed(TypedDict):
    """Tokens per second of the same rows batched and one by one, and the share of rows whose texts are equal."""

    rows: int
    batched_tokens_per_second: float
    one_by_one_tokens_per_second: float
    ratio: float
    equal: float


def make_inputs(
    template: Template, rows: Sequence[Mapping[str, object]], examples: Sequence[Mapping[str, object]], seed: int
) -> pa.Table:
    """Rows of `lm.dataset` -> INPUT_COLUMNS.

    Texts are in pieces, so that a template's special tokens are told from such words in a review. Every prompt shows
    the same solved examples. `other` is the completion of another row, drawn by the seed, or empty
    where there is only one row.
    """
    completions = [template.completion_parts(row) for row in rows]
    order = np.random.default_rng(seed).permutation(len(rows))
    others = [[""]] * len(rows)
    for row, other in zip(order, np.roll(order, 1), strict=True):
        others[row] = completions[other] if row != other else [""]
    columns = {
        "row": range(len(rows)),
        "id": [str(row["id"]) for row in rows],
        "prompt": [few_shot(template, examples, row) for row in rows],
        "completion": completions,
        "other": others,
    }
    return pa.table(columns, schema=INPUT_COLUMNS)


class LMEvaluator:
    """The model and the metrics, loaded. Call it with a table of INPUT_COLUMNS to get RESULT_COLUMNS.

    Raises UserError where the model cannot be loaded, or cannot spell a label that constrained decoding needs.
    """

    def __init__(self, plan: EvaluationPlan, threads: int = 0) -> None:
        self.device = choose_device(plan.device, threads, "bf16" if plan.bf16 else "fp32")
        self.model, self.hf, _ = causal_lm.load(plan.model, plan.device)
        if plan.bf16:
            self.model.to(torch.bfloat16)
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
        self.limit = min(plan.limit or positions, positions)
        tokens = plan.batch_tokens or (8_192 if self.device.torch_device.type == "cpu" else 131_072)
        self.virtual = virtual_tokens.ids_of(self.model)
        self.plan, self.tokenizer, template = plan, PromptTokenizer(self.hf, self.virtual), plan.template
        if odd := self.tokenizer.check(template):
            log.warning("%s", odd)
        ends = self.tokenizer.named_in(f"{template.completion_frame[1]} {template.stop}")
        spelled = self.tokenizer.named_in(template.answer_after)
        self.generator = Generator(self.model, self.hf, tokens, ends.values(), spelled)
        self.tail_tokens = len(self.tokenizer.own(template.tail))
        self.grammar: Grammar | None = None
        self.front: list[int] = []  # what the completion begins with, where the grammar begins behind it
        if plan.constrained and plan.taxonomy:
            self.grammar = constrained_decoding.grammar_for(
                template, plan.taxonomy, TokenBytes(self.hf), self.generator.ends
            )
            self.front = [] if template.answer_after else self.tokenizer.own(template.completion_frame[0])
        self.bert = BertScore(plan.bertscore, self.device) if plan.bertscore else None

    def __call__(self, inputs: pa.Table) -> pa.Table:
        answer = self.plan.template.answer
        prompts, completions, others = (inputs[name].to_pylist() for name in ("prompt", "completion", "other"))
        references, others = ([answer(self._shown(text)) for text in texts] for texts in (completions, others))
        began, cpu_began = time.perf_counter(), time.process_time()
        generations, cut = self.generate(prompts, inputs["row"].to_pylist())
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        generated = [answer(generation.text) for generation in generations]
        losses, terms = self.losses(prompts, completions)
        share = np.array([generation.tokens for generation in generations]) + 1.0
        share /= share.sum()
        columns = {
            "reference": references,
            "generated": generated,
            "completion_generated": [generation.text for generation in generations],
            "loss": losses,
            "loss_tokens": terms,
            "prompt_cut": cut,
            "new_tokens": [generation.tokens for generation in generations],
            "seconds": seconds * share,
            "cpu_seconds": cpu_seconds * share,
            "sums": self.compare(references, others, generated).reshape(len(inputs), -1).tolist(),
        }
        whole = {"prompt": list(map("".join, prompts)), "completion": list(map("".join, completions))}
        results = inputs.select(["row", "id"])
        for name, kind in (("prompt", pa.string()), ("completion", pa.string()), *RESULT_COLUMNS):
            results = results.append_column(name, pa.array((whole | columns)[name], kind))
        return results

    def _shown(self, completion: Sequence[str]) -> str:
        """A completion as the model's own text would show it."""
        return self.tokenizer.shown(completion, keep=self.plan.template.answer_after)

    def generate(self, prompts: Sequence[Text], rows: Sequence[int]) -> tuple[list[Generation], list[bool]]:
        """What the model writes after each prompt, and which prompts were cut because they were too long."""
        decoding, ids = self.plan.decoding, self.tokenizer.prompts(prompts)
        ready = [[*self._cut(row, self.tail_tokens, decoding), *self.front] for row in ids]
        cut = [len(short) < len(whole) + len(self.front) for short, whole in zip(ready, ids, strict=True)]
        if self.grammar and self.plan.template.answer_after:
            return self._generate_in_two(ready, self.grammar, rows), cut
        return self.generator(ready, decoding, self.grammar, rows), cut

    def losses(self, prompts: Sequence[Text], completions: Sequence[Text]) -> tuple[Floats, Ints]:
        """[n] summed loss of each row's true tokens that count, and how many count."""
        tail, loss_on = self.plan.template.tail, self.plan.loss_on
        encoded = encode(self.hf, prompts, completions, self.limit, tail, loss_on, self.virtual)
        return row_losses(self.model, encoded, self.device, self.generator.pad), encoded.terms

    def compare(
        self, references: Sequence[str], others: Sequence[str], generated: Sequence[str]
    ) -> NDArray[np.float64]:
        """[rows, comparisons, OVERLAPS + BERT] of the four COMPARISONS; NaN where no BERTScore is computed."""
        units = (split_units(texts, self.plan.unit) for texts in (references, others, generated))
        scores = np.full((len(references), len(COMPARISONS), OVERLAPS + BERT), np.nan)
        scores[:, :, :OVERLAPS] = [[overlaps(*pair) for pair in _pairs(*row)] for row in zip(*units, strict=True)]
        if self.bert:
            pairs = [pair for row in zip(references, others, generated, strict=True) for pair in _pairs(*row)]
            scores[:, :, OVERLAPS:] = self.bert(*zip(*pairs, strict=True)).reshape(-1, len(COMPARISONS), BERT)
        return scores

    def _generate_in_two(self, prompts: Sequence[list[int]], labels: Grammar, rows: Sequence[int]) -> list[Generation]:
        """Free text up to `answer_after`, which is inserted if the model does not write it; then labels alone."""
        decoding, template = self.plan.decoding, self.plan.template
        thoughts = self.generator(prompts, replace(decoding, stop=template.answer_after), rows=rows)
        heads = [["", _before(thought.text, template.stop), template.answer_after] for thought in thoughts]
        room = max(labels.shortest, decoding.max_new_tokens // 2)
        constrained = replace(decoding, max_new_tokens=room, seed=decoding.seed + 1)
        head_ids = self.tokenizer(heads)
        ready = [
            self._cut([*prompt, *head], self.tail_tokens + len(head), constrained)
            for prompt, head in zip(prompts, head_ids, strict=True)
        ]
        answers = self.generator(ready, constrained, labels, rows)
        return [
            Generation("".join(head) + answer.text, thought.tokens + answer.tokens)
            for head, thought, answer in zip(heads, thoughts, answers, strict=True)
        ]

    def _cut(self, prompt: list[int], tail: int, decoding: Decoding) -> list[int]:
        room = self.limit - decoding.max_new_tokens - len(self.front)
        check(
            room > self.tail_tokens + self.tokenizer.kept,
            f"--max-new-tokens {decoding.max_new_tokens}: of the {self.limit} tokens that {self.plan.model} reads, "
            "too few are left for the prompt",
        )
        return cut_prompt(prompt, tail, room)


def _pairs(reference: Side, other: Side, generated: Side) -> tuple[tuple[Side, Side], ...]:
    """The two sides of each of the COMPARISONS."""
    return (reference, generated), (other, generated), (reference, other), (reference, reference)


def _before(text: str, stop: str) -> str:
    return text.partition(stop)[0] if stop else text


def benchmark(plan: EvaluationPlan, inputs: pa.Table) -> Speed:
    """Generates the same inputs batched and one by one."""
    evaluator, prompts, rows = LMEvaluator(plan), inputs["prompt"].to_pylist(), inputs["row"].to_pylist()
    evaluator.generate(prompts, rows)  # warm-up: what is computed once, as by the grammar, favors neither
    began = time.perf_counter()
    together, _ = evaluator.generate(prompts, rows)
    batched = time.perf_counter() - began
    began = time.perf_counter()
    alone = [evaluator.generate([prompt], [row])[0][0] for prompt, row in zip(prompts, rows, strict=True)]
    one_by_one = time.perf_counter() - began
    return {
        "rows": len(rows),
        "batched_tokens_per_second": round(sum(g.tokens for g in together) / batched, 1),
        "one_by_one_tokens_per_second": round(sum(g.tokens for g in alone) / one_by_one, 1),
        "ratio": round(one_by_one / batched, 2),
        "equal": round(sum(a.text == b.text for a, b in zip(alone, together, strict=True)) / len(rows), 4),
    }
