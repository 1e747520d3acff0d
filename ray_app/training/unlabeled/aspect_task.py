"""The training task of a KeywordReader: label sets of several taxonomies, each read with its own keywords.

In: label sets, a bundle's encoder, which is run once over their reviews. Out: an AspectTask for `loop.train_model`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ray_app.arrays import Floats, Ints
from ray_app.engine.device import Device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.keyword_reader import EXACT, SCORES, SIGNS, KeywordReader, outputs_of, phrase_vectors
from ray_app.engine.ragged import Sequences
from ray_app.engine.token_states import padded_states, token_states
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check
from ray_app.labels import reader as labels_reader
from ray_app.labels.hold_out import training_split
from ray_app.training.classifier_task import keyword_metrics
from ray_app.training.joined_reviews import LabeledTokens, labels_of, named_keywords
from ray_app.training.keyword_scores import KeywordScoreTask, keyword_score_task, log_of_sign
from ray_app.training.settings import Settings

NAMES_ALONE, KEPT = 0.3, 0.6  # share of steps that give a keyword's name only; of its phrases that others give
VALIDATED = 300  # validation reviews of a set that are read


@dataclass(frozen=True)
class LabelSet:
    """One taxonomy's reviews. `states` of the training rows, `held_out` of the validation rows: [tokens, hidden] each,
    standardized, in half precision; `vectors` per keyword [phrases, hidden]; `outputs`: see `outputs_of`."""

    task: KeywordScoreTask
    states: list[Tensor]
    held_out: list[Tensor]
    vectors: list[Tensor]
    outputs: list[int]

    def keywords(self, rng: np.random.Generator | None = None) -> Tensor:
        """[keywords, hidden] the mean of each one's phrases, or of some that the generator draws."""
        if rng is None:
            return torch.stack([phrases.mean(0) for phrases in self.vectors])
        names_alone = rng.random() < NAMES_ALONE
        drawn = []
        for phrases in self.vectors:
            kept = rng.random(len(phrases)) < KEPT
            kept[0] |= names_alone or not kept.any()
            kept[1:] &= not names_alone
            drawn.append(phrases[torch.from_numpy(kept)].mean(0))
        return torch.stack(drawn)


@dataclass(kw_only=True)
class AspectTask:
    """A `loop.TrainingTask` over the rows of all sets, one after the other."""

    sets: Sequence[LabelSet]
    mean: Tensor
    spread: Tensor
    seed: int
    rng: np.random.Generator = field(init=False)
    name = "reader"

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    @cached_property
    def first(self) -> Ints:
        """[sets + 1] the first row of each."""
        return np.cumsum([0, *(len(each.states) for each in self.sets)])

    @cached_property
    def lengths(self) -> Ints:
        """[n] tokens of every row."""
        return np.array([len(states) for each in self.sets for states in each.states], np.int64)

    @cached_property
    def terms(self) -> Ints:
        """[n] a term per label, and one for the keywords that a row names."""
        return np.concatenate([each.task.terms for each in self.sets])

    def begin_epoch(self, epoch: int) -> None:
        """Other phrases are drawn in every epoch."""
        self.rng = np.random.default_rng([self.seed, epoch])

    def parts(self, model: KeywordReader, settings: Settings) -> Sequence[tuple[nn.Module, float]]:
        """All of it learns alike."""
        return ((model, 1.0),)

    def loss(self, model: nn.Module, rows: Ints, device: torch.device) -> Tensor:
        """The summed loss of these rows' labels, each set's under its own keywords."""
        total = torch.zeros((), device=device)
        for number, each in enumerate(self.sets):
            own = rows[(rows >= self.first[number]) & (rows < self.first[number + 1])] - self.first[number]
            if not len(own):
                continue
            chosen = [each.task.rows[row] for row in own]
            states, mask = padded_states([each.states[row] for row in own], device)
            logits, attention = model(states, mask, each.keywords(self.rng).to(device))
            logits = logits.float()
            total = total + each.task.loss_of(chosen, logits[..., [*each.outputs, SCORES]], attention)
            total = total + _other_scale(each, chosen, logits)
        return total

    @torch.no_grad()
    def validate(self, model: KeywordReader, device: Device) -> dict[str, float]:
        """Means over the sets; `select` is that of finding keywords and of scoring them."""
        model.eval()
        found, scored = [], []
        for each in self.sets:
            rows = each.task.validation[:VALIDATED]
            grid = np.concatenate(list(_logits(model, each, device.torch_device)))
            review, keyword, score = labels_of(rows)
            found.append(keyword_metrics(named_keywords(rows, len(each.vectors)))(grid[:, :, -1])["select"])
            best = grid[review, keyword, :-1].argmax(1)
            scored.append(float((each.task.signs[best] == each.task.signs[score]).mean()))
        f1, sign = float(np.mean(found)), float(np.mean(scored))
        return {"select": round((f1 + sign) / 2, 4), "keywords_f1": round(f1, 4), "accuracy": round(sign, 4)}


def label_set(
    given: str,
    model: KeywordScorer,
    tokenizer: Tokenizer,
    device: Device,
    max_length: int = 128,
    evidence: float = 0.3,
    bf16: bool = False,
    seed: int = 0,
) -> LabelSet:
    """Reads `FILE=TAXONOMY.yaml`, `FILE` or `sample`, as the model's encoder makes it. `evidence`, `seed`: see
    `keyword_score_task`; `bf16`: see `token_states`. Raises UserError where its scale of scores cannot be learned."""
    uri, _, taxonomy = given.rpartition("=") if given.endswith((".yaml", ".yml")) else (given, "", "")
    labels = labels_reader.read_labels(uri, taxonomy or ("default" if uri == "sample" else "labels"))
    outputs = outputs_of(labels.taxonomy.scores)
    check(outputs, f"--labels {given}: scores {list(labels.taxonomy.scores)}; a reader knows those within -2..2")
    train, validation = training_split(labels, uri, seed=seed)
    task = keyword_score_task(
        train,
        validation,
        labels.taxonomy,
        tokenizer,
        max_length,
        balance=0.0,
        evidence=evidence,
        join=0.0,
        seed=seed,
        finds=True,
    )

    def read(rows: Sequence[LabeledTokens]) -> list[Tensor]:
        sequences = tokenizer.with_special_tokens(Sequences.of([row.ids for row in rows]), max_length)
        states = token_states(model.encoder, sequences, tokenizer.pad_id, device, bf16, model.batching)
        return [model.head.standardized(one.cpu()).half() for one in states]

    vectors = phrase_vectors(model.encoder, model.head, tokenizer, labels.taxonomy, device, model.batching)
    return LabelSet(task, read(task.rows), read(task.validation[:VALIDATED]), vectors, outputs)


def _other_scale(each: LabelSet, chosen: Sequence[LabeledTokens], logits: Tensor) -> Tensor:
    """The summed loss of the labels' signs on the scale that the set does not have: a score of either scale must be
    known of every keyword."""
    review, keyword, score = (torch.from_numpy(part).to(logits.device) for part in labels_of(chosen))
    if not len(review):
        return logits.sum() * 0.0
    other, scale = (outputs_of(EXACT), EXACT) if each.outputs[0] >= len(EXACT) else (outputs_of(SIGNS), SIGNS)
    wanted = torch.as_tensor(each.task.signs, device=logits.device)[score]
    signs = torch.as_tensor(np.sign(scale), device=logits.device)
    return -log_of_sign(logits[review, keyword][:, other].log_softmax(1), signs, wanted).sum()


def _logits(model: KeywordReader, each: LabelSet, device: torch.device) -> Iterator[Floats]:
    """[rows, keywords, outputs] of the held-out rows, some at a time."""
    vectors = each.keywords().to(device)
    for at in range(0, len(each.held_out), 50):
        logits, _ = model(*padded_states(each.held_out[at : at + 50], device), vectors)
        yield logits[..., [*each.outputs, SCORES]].float().cpu().numpy()
