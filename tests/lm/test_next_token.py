"""next_token: losses equal transformers' own, however rows are laid out, accumulated or shared among workers."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from ray_app.engine.device import choose_device
from ray_app.engine.ragged import Sequences
from ray_app.lm import causal_lm
from ray_app.lm.encoding import IGNORED, Encoded, encode, packed, padded
from ray_app.lm.next_token import NextTokenTask, keeps_rows_apart, row_losses, token_losses, unigram
from ray_app.training.loop import train_model
from ray_app.training.settings import Settings
from tests.support.language_models import KINDS, lm_tokenizer, tiny_lm
from tests.support.two_processes import results_of_two

FAMILIES = ("gpt2", "llama")
PROMPTS = [
    f"###입력: {text} \n###출력:" for text in ("옷이 예뻐요", "배송이 너무 느려요", "굿", "핏이 좋고 편해요", "음")
]
COMPLETIONS = [" 디자인1", " 배송-2, 만족도-1", " 만족도1", " 핏1, 착용감2, 만족도2", " 만족도0"]
TAIL = " \n###출력:"


def encoded(loss_on: str = "answer", kind: str = "unigram", max_length: int = 256) -> Encoded:
    return encode(lm_tokenizer(kind), PROMPTS, COMPLETIONS, max_length, TAIL, loss_on)


def random_rows(lengths: list[int], seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(5, 200, length).tolist() for length in lengths]
    return Encoded(Sequences.of(rows), np.array([rng.integers(1, length) for length in lengths]))


def mean(losses: tuple[torch.Tensor, torch.Tensor]) -> float:
    return float(losses[0].mean())


@pytest.mark.parametrize("loss_on", ["answer", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_transformers_own(family: str, loss_on: str) -> None:
    model, rows = tiny_lm(family=family), encoded(loss_on)
    batch = padded(rows, lm_tokenizer("unigram").pad_token_id)
    with torch.no_grad():
        theirs = model(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.labels).loss.item()
        assert mean(token_losses(model, batch)) == pytest.approx(theirs, abs=1e-5)
    assert row_losses(model, rows, choose_device("cpu"), 0).sum() / rows.terms.sum() == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_answer_counts_or_all_but_the_first_token(kind: str) -> None:
    tokenizer = lm_tokenizer(kind)
    answers, whole = encoded("answer", kind), encoded("all", kind)
    for rows in (answers, whole):
        assert (padded(rows, 0).labels != IGNORED).sum() == rows.terms.sum()
    for i, completion in enumerate(COMPLETIONS):
        answer, row = (counted(rows, i) for rows in (answers, whole))
        assert answer[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(answer[:-1]).split() == completion.split()
        assert row == whole.sequences.row(i).tolist()[1:]


def counted(rows: Encoded, i: int) -> list[int]:
    labels = padded(rows, 0).labels[i]
    found: list[int] = labels[labels != IGNORED].tolist()
    return found


@given(st.lists(st.integers(2, 30), min_size=1, max_size=9), st.integers(1, 64), st.sampled_from(FAMILIES))
@settings(max_examples=25, deadline=None)
def test_packed_rows_lose_what_they_lose_alone(lengths: list[int], width: int, family: str) -> None:
    model, rows = tiny_lm(family=family), random_rows(lengths)
    alone = row_losses(model, rows, choose_device("cpu"), 0)
    batch = packed(rows, 0, width)
    assert batch.ids.shape[1] <= max(width, *lengths)
    with torch.no_grad():
        losses, row = token_losses(model, batch)
    together = torch.zeros(len(rows)).index_add(0, row, losses)
    np.testing.assert_allclose(together.numpy(), alone, rtol=1e-4, atol=1e-4)


def test_packing_is_refused_where_rows_would_see_one_another() -> None:
    rows = random_rows([12, 9, 7])
    assert keeps_rows_apart(tiny_lm(), rows, 0)
    assert not keeps_rows_apart(BloomForCausalLM(BloomConfig(vocab_size=200, hidden_size=32, n_layer=1)), rows, 0)
    blind = GPT2LMHeadModel(GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4))
    blind.config._attn_implementation = "sdpa"
    plain = blind.forward

    def sees_all(position_ids: Any = None, **options: Any) -> Any:
        """As an architecture that takes positions but knows nothing of rows within a line."""
        mask = torch.ones_like(options["input_ids"])
        return plain(position_ids=position_ids, **{**options, "attention_mask": mask})

    blind.forward = sees_all
    assert not keeps_rows_apart(blind, rows, 0)


@torch.no_grad()
def teacher_forced(model: Any, ids: Sequence[int]) -> list[int]:
    """The model's predictions after each true token: entry t predicts `ids[t + 1]`, given `ids[: t + 1]`.

    So they align with `ids[1:]`, one place after the logits they come from; beside `ids` they would be off by one.
    """
    logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    predictions: list[int] = logits[0, :-1].argmax(-1).tolist()
    return predictions


def test_a_memorized_text_shows_the_off_by_one() -> None:
    """Position t predicts token t + 1: shifted, the teacher-forced predictions are the text; unshifted they are not."""
    prompt, completion = (
        " 질문: 왜 지원하셨나요? 경력: 신입 직업: ICT 답변:",
        " 어, 지하철에서 앱을 쓰다가 궁금해져서요. ",
    )
    model, tokenizer = causal_lm.make_small_llama([prompt + completion], layers=1, hidden=64, vocabulary=300, seed=0)
    row = encode(tokenizer, [prompt], [completion], 256, loss_on="all")
    ids = row.sequences.row(0).tolist()
    task = NextTokenTask(name="one", train=row, validation=row, pad_id=tokenizer.pad_token_id)
    history = train_model(
        model,
        task,
        Settings(epochs=200, batch_size=1, learning_rate=5e-3, patience=0, warmup=0),
        lambda metrics, write: None,
        device="cpu",
    )
    assert history[-1]["validation_loss"] < 0.01 < 1 < history[0]["validation_loss"]
    assert history[-1]["perplexity"] < 1.01
    predictions = teacher_forced(model.eval(), ids)
    assert predictions == ids[1:]
    assert tokenizer.decode([ids[0], *predictions], skip_special_tokens=True) == prompt + completion
    assert np.mean(np.array(predictions) == ids[:-1]) < 0.2  # beside its own position instead of the next: the trap
    begin = row.sequences.offsets[0] + len(encode(tokenizer, [prompt], [""], 256).sequences.row(0)) - 1
    written = model.generate(torch.tensor([ids[:begin]]), max_new_tokens=200, do_sample=False)[0, begin:]
    assert tokenizer.decode(written, skip_special_tokens=True) == completion


def test_a_unigram_knows_how_often_tokens_occur() -> None:
    rows = Encoded(Sequences.of([[9, 1, 1, 2], [9, 1, 2, 2]]), np.array([1, 1]))
    held = Encoded(Sequences.of([[9, 1, 1, 1, 2]]), np.array([1]))
    by_training, own = unigram(rows, held, 10)
    share = (np.array([3, 3]) + 1) / 16
    assert by_training == pytest.approx(-(3 * np.log(share[0]) + np.log(share[1])) / 4)
    assert own == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))


SETTINGS = Settings(epochs=2, batch_size=4, learning_rate=1e-3, weight_decay=0.0, warmup=0.0, patience=0)
LENGTHS = [30, 4, 25, 9, 3, 17, 2, 21, 6, 12, 28]
CASES = {
    "padded": (SETTINGS, 0),
    "packed": (SETTINGS, 48),
    "accumulated": (replace(SETTINGS, accumulate=2), 0),
    "one batch of all": (replace(SETTINGS, batch_size=11, clip=1e9), 0),
}


def train(case: str) -> tuple[list[tuple[float, float]], dict[str, Any]]:
    """Rows of very different lengths, so that a mean of batch means would be another figure."""
    how, pack = CASES[case]
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=200, n_positions=64, **shape))
    task = NextTokenTask(
        name="t", train=random_rows(LENGTHS), validation=random_rows(LENGTHS[:5], 1), pad_id=0, pack=pack
    )
    history = train_model(model, task, how, lambda metrics, write: None, device="cpu")
    return [(r["loss"], r["validation_loss"]) for r in history], {k: v.clone() for k, v in model.state_dict().items()}


def train_all() -> dict[str, Any]:
    """Every case."""
    return {case: train(case) for case in CASES}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results_of_two(tmp_path_factory.mktemp("world"), train_all)


@pytest.mark.parametrize("case", CASES)
def test_two_workers_equal_one(two_workers: list[dict[str, Any]], case: str) -> None:
    losses, weights = train(case)
    for found in two_workers:
        own_losses, learned = found[case]
        np.testing.assert_allclose(own_losses, losses, atol=1e-5)
        for name, value in weights.items():
            assert_near(learned[name], value, name)


def test_packing_and_accumulating_change_nothing_that_is_learned() -> None:
    losses, weights = train("padded")
    for case in ("packed", "accumulated"):
        own_losses, learned = train(case)
        np.testing.assert_allclose(own_losses, losses, atol=1e-5)
        for name, value in weights.items():
            assert_near(learned[name], value, name)


def assert_near(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """But for attention's key biases: softmax cancels them, so their gradient is noise, which Adam scales up."""
    if not name.endswith("c_attn.bias"):
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=0, msg=name)


def test_the_first_loss_is_the_mean_over_tokens_of_all_batches() -> None:
    rows, model = random_rows(LENGTHS), deepcopy(tiny_lm(family="llama"))  # which has no dropout
    expected = row_losses(model, rows, choose_device("cpu"), 0).sum() / rows.terms.sum()
    task = NextTokenTask(name="t", train=rows, validation=rows, pad_id=0)
    still = replace(SETTINGS, epochs=1, learning_rate=0.0)
    [first] = train_model(model, task, still, lambda metrics, write: None, device="cpu")
    assert [first["loss"], first["validation_loss"]] == [pytest.approx(float(expected), abs=1e-5)] * 2
