"""A causal language model is examined: prompts in, what it writes and how near that comes to the reference out.

In: rows of `PAPERS` (prompt, completion, and another row's completion). Out: the same rows with `MARKS`: its loss on
the true completion, the text it generates from the prompt alone, and BLEU, ROUGE, BERTScore of four comparisons, so
that whoever reads the figures knows what they can be:

    model      the generated text with the row's reference
    shuffled   the generated text with another row's reference: what any answer would get
    unrelated  another row's reference with the row's reference: what a person's answer to something else gets
    reference  the reference with itself: the most there is
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ray_app.data.taxonomy import Taxonomy
from ray_app.engine.device import choose_device
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check
from ray_app.evaluation.bertscore import BertScore
from ray_app.evaluation.text_metrics import overlaps, split_units
from ray_app.lm import causal_lm, constrained_decoding
from ray_app.lm.constrained_decoding import Grammar
from ray_app.lm.encoding import cut_prompt, encode, prompt_ids
from ray_app.lm.generation import Decoding, Generation, Generator
from ray_app.lm.next_token import row_losses
from ray_app.lm.templates import Template, few_shot
from ray_app.lm.token_bytes import TokenBytes

Text = TypeVar("Text")
COMPARISONS = ("model", "shuffled", "unrelated", "reference")
OVERLAPS, BERT = 13, 3  # numbers of `text_metrics.overlaps`, of BERTScore
INPUT_COLUMNS = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("other", pa.string()),
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
    """How a model is examined. `limit`: tokens of prompt and answer together, 0 for all it can read; `bertscore`: an
    encoder, empty for none."""

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


def papers(template: Template, rows: Sequence[dict[str, Any]], shown: Sequence[dict[str, Any]], seed: int) -> pa.Table:
    """Rows of `examples.read` -> PAPERS. Every prompt shows the same solved examples, and every row stands beside the
    completion of another, drawn by the seed."""
    completions = [template.completion(row) for row in rows]
    order = np.random.default_rng(seed).permutation(len(rows))
    others = [""] * len(rows)
    for one, another in zip(order, np.roll(order, 1), strict=True):
        others[one] = completions[another] if one != another else ""
    columns = {
        "row": range(len(rows)),
        "id": [str(row["id"]) for row in rows],
        "prompt": [few_shot(template, shown, row) for row in rows],
        "completion": completions,
        "other": others,
    }
    return pa.table(columns, schema=INPUT_COLUMNS)


class LMEvaluator:
    """The model and all that judges it, loaded. Call it with a table of PAPERS to get their MARKS."""

    def __init__(self, exam: EvaluationPlan, threads: int = 0) -> None:
        self.placement = choose_device(exam.device, threads, "bf16" if exam.bf16 else "fp32")
        self.model, self.hf, _ = causal_lm.load(exam.model, exam.device)
        if exam.bf16:
            self.model.to(torch.bfloat16)
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
        self.limit = min(exam.limit or positions, positions)
        tokens = exam.batch_tokens or (8_192 if self.placement.device.type == "cpu" else 131_072)
        self.generator = Generator(self.model, self.hf, tokens)
        self.exam, self.tokenizer = exam, Tokenizer(self.hf)
        self.kept = len(self.tokenizer.encode_fragment(exam.template.tail))
        self.grammar: Grammar | None = None
        if exam.constrained and exam.taxonomy:
            self.grammar = constrained_decoding.grammar_for(
                exam.template, exam.taxonomy, TokenBytes(self.hf), self.generator.ends
            )
        self.bert = BertScore(exam.bertscore, self.placement) if exam.bertscore else None

    def __call__(self, table: pa.Table) -> pa.Table:
        answer = self.exam.template.answer
        prompts, completions = table["prompt"].to_pylist(), table["completion"].to_pylist()
        references, others = (list(map(answer, texts)) for texts in (completions, table["other"].to_pylist()))
        began, cpu_began = time.perf_counter(), time.process_time()
        written, cut = self.write(prompts, table["row"].to_pylist())
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        generated = [answer(w.text) for w in written]
        losses, terms = self.losses(prompts, completions)
        share = np.array([w.tokens for w in written]) + 1.0
        share /= share.sum()
        columns = {
            "reference": references,
            "generated": generated,
            "completion_generated": [w.text for w in written],
            "loss": losses,
            "loss_tokens": terms,
            "prompt_cut": cut,
            "new_tokens": [w.tokens for w in written],
            "seconds": seconds * share,
            "cpu_seconds": cpu_seconds * share,
            "sums": self.compare(references, others, generated).reshape(len(table), -1).tolist(),
        }
        for name, kind in RESULT_COLUMNS:
            table = table.append_column(name, pa.array(columns[name], kind))
        return table.drop_columns(["other"])

    def write(self, prompts: Sequence[str], rows: Sequence[int]) -> tuple[list[Generation], list[bool]]:
        """What the model writes after each prompt, and which prompts were too long to be read whole."""
        decoding, ids = self.exam.decoding, prompt_ids(self.tokenizer, prompts)
        ready = [self._cut(row, self.kept, decoding) for row in ids]
        cut = [len(short) < len(whole) for short, whole in zip(ready, ids, strict=True)]
        if self.grammar and self.exam.template.answer_after:
            return self._thoughtful(ready, self.grammar, rows), cut
        return self.generator(ready, decoding, self.grammar, rows), cut

    def losses(self, prompts: Sequence[str], completions: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        """[n] summed loss of each row's true tokens that count, and how many count."""
        tail, loss_on = self.exam.template.tail, self.exam.loss_on
        encoded = encode(self.hf, prompts, completions, self.limit, tail, loss_on)
        return row_losses(self.model, encoded, self.placement, self.generator.pad), encoded.terms

    def compare(
        self, references: Sequence[str], others: Sequence[str], generated: Sequence[str]
    ) -> NDArray[np.float64]:
        """[rows, comparisons, OVERLAPS + BERT] of the four COMPARISONS."""
        units = (split_units(texts, self.exam.unit) for texts in (references, others, generated))
        counted = [[overlaps(*pair) for pair in _pairs(*row)] for row in zip(*units, strict=True)]
        found = np.full((len(references), len(COMPARISONS), OVERLAPS + BERT), np.nan)
        found[:, :, :OVERLAPS] = counted
        if self.bert:
            pairs = [pair for row in zip(references, others, generated, strict=True) for pair in _pairs(*row)]
            found[:, :, OVERLAPS:] = self.bert(*zip(*pairs, strict=True)).reshape(-1, len(COMPARISONS), BERT)
        return found

    def _thoughtful(self, prompts: Sequence[list[int]], labels: Grammar, rows: Sequence[int]) -> list[Generation]:
        """Free until `answer_after`, which is put there if the model does not come to it; then labels alone."""
        decoding, template = self.exam.decoding, self.exam.template
        thoughts = self.generator(prompts, replace(decoding, stop=template.answer_after), rows=rows)
        heads = [_before(thought.text, template.stop) + template.answer_after for thought in thoughts]
        least = max(labels.shortest, decoding.max_new_tokens // 2)
        brief = replace(decoding, max_new_tokens=least, seed=decoding.seed + 1)
        said = [self.tokenizer.encode_fragment(head) for head in heads]
        ready = [
            self._cut([*prompt, *head], self.kept + len(head), brief)
            for prompt, head in zip(prompts, said, strict=True)
        ]
        return [
            Generation(head + answer.text, thought.tokens + answer.tokens)
            for head, thought, answer in zip(heads, thoughts, self.generator(ready, brief, labels, rows), strict=True)
        ]

    def _cut(self, prompt: list[int], tail: int, decoding: Decoding) -> list[int]:
        room = self.limit - decoding.max_new_tokens
        check(
            room > self.kept,
            f"--max-new-tokens {decoding.max_new_tokens}: of the {self.limit} tokens that {self.exam.model} reads, "
            "too few are left for the prompt",
        )
        return cut_prompt(prompt, tail, room)


def _pairs(reference: Text, other: Text, generated: Text) -> tuple[tuple[Text, Text], ...]:
    """What is set beside what, in the order of COMPARISONS."""
    return (reference, generated), (other, generated), (reference, other), (reference, reference)


def _before(text: str, stop: str) -> str:
    return text.partition(stop)[0] if stop else text


def benchmark(exam: EvaluationPlan, table: pa.Table) -> dict[str, Any]:
    """Tokens a second of the same PAPERS batched and one by one, and the share of rows whose texts are equal."""
    examinee, prompts, rows = LMEvaluator(exam), table["prompt"].to_pylist(), table["row"].to_pylist()
    examinee.write(prompts, rows)  # what is found out once, such as what the grammar allows, favours neither
    began = time.perf_counter()
    together, _ = examinee.write(prompts, rows)
    batched = time.perf_counter() - began
    began = time.perf_counter()
    alone = [examinee.write([prompt], [row])[0][0] for prompt, row in zip(prompts, rows, strict=True)]
    one_by_one = time.perf_counter() - began
    return {
        "rows": len(rows),
        "batched_tokens_per_second": round(sum(w.tokens for w in together) / batched, 1),
        "one_by_one_tokens_per_second": round(sum(w.tokens for w in alone) / one_by_one, 1),
        "ratio": round(one_by_one / batched, 2),
        "equal": round(sum(a.text == b.text for a, b in zip(alone, together, strict=True)) / len(rows), 4),
    }
