import copy

import numpy as np
import pytest
import torch

from ray_app.compression.student_task import StudentTask, Weights, imitation
from ray_app.compression.targets import Lessons, drawn_reviews, lessons
from ray_app.data.taxonomy import load
from ray_app.engine.device import choose_device
from ray_app.engine.keyword_attention import KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from tests.support.bundles import hf_tokenizer, keyword_scorer, sample_texts

TAXONOMY, CPU = load(), torch.device("cpu")
TOKENIZER = Tokenizer(hf_tokenizer("bert"))


@pytest.fixture(scope="module")
def teacher() -> KeywordScorer:
    return keyword_scorer("bert", TAXONOMY, finds=True)


@pytest.fixture(scope="module")
def learned(teacher: KeywordScorer) -> Lessons:
    sequences = drawn_reviews(sample_texts(10), TOKENIZER, 64, join=0.5, seed=0)
    return lessons(teacher, sequences, TOKENIZER.pad_id, choose_device("cpu"), bf16=False)


def task(learned: Lessons, **weights: float) -> StudentTask:
    return StudentTask(lessons=learned, judge=None, weights=Weights(**weights), pad_id=TOKENIZER.pad_id)  # type: ignore[arg-type]


@torch.no_grad()
def loss(model: KeywordScorer, learned: Lessons, rows: list[int], **weights: float) -> float:
    return float(task(learned, **weights).loss(model, np.array(rows), CPU))


def test_who_says_the_same_has_nothing_to_learn(teacher: KeywordScorer, learned: Lessons) -> None:
    assert loss(teacher, learned, list(range(len(learned)))) == pytest.approx(0, abs=0.05)


def test_another_model_has_each_of_the_four_to_learn(learned: Lessons) -> None:
    other, rows = keyword_scorer("bert", TAXONOMY, seed=5, finds=True), [0, 1, 2]
    bare = loss(other, learned, rows, scores=0, attention=0, states=0)
    assert bare > 0.1
    for name in ("scores", "attention", "states"):
        alone = {**dict.fromkeys(("scores", "attention", "states"), 0.0), name: 1.0}
        assert loss(other, learned, rows, **alone) > bare + 0.01


def test_a_batch_costs_what_its_reviews_cost(learned: Lessons) -> None:
    """Padding teaches nothing, however unlike the lengths are."""
    other = keyword_scorer("bert", TAXONOMY, seed=5, finds=True)
    rows = [int(learned.sequences.lengths.argmin()), int(learned.sequences.lengths.argmax())]
    assert loss(other, learned, rows) == pytest.approx(sum(loss(other, learned, [row]) for row in rows), rel=1e-4)


def test_a_student_learns(teacher: KeywordScorer, learned: Lessons) -> None:
    student = copy.deepcopy(teacher)
    torch.manual_seed(0)
    for parameter in student.head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    rows, optimizer = np.arange(len(learned)), torch.optim.AdamW(student.parameters(), 3e-3)
    before = loss(student, learned, rows.tolist())
    for _ in range(8):
        optimizer.zero_grad()
        torch.autograd.backward(task(learned).loss(student, rows, CPU))
        optimizer.step()
    assert loss(student, learned, rows.tolist()) < 0.7 * before


def test_scores_of_a_keyword_that_is_not_there_do_not_count() -> None:
    wanted = torch.tensor([[[3.0, 0.0, -30.0]]])
    assert float(imitation(torch.tensor([[[-3.0, 5.0, -30.0]]]), wanted)) == pytest.approx(0, abs=1e-5)
    wanted[..., -1] = 30.0
    assert float(imitation(torch.tensor([[[-3.0, 5.0, 30.0]]]), wanted)) > 1


def test_joined_reviews_come_besides(learned: Lessons) -> None:
    alone = drawn_reviews(sample_texts(10), TOKENIZER, 64, join=0.0, seed=0)
    assert len(alone) == 10 < len(learned) <= 15
    assert learned.sequences.lengths[10:].mean() > alone.lengths.mean()
