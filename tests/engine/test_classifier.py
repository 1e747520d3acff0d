"""Logits against transformers alone, whatever the batch; batches, probabilities, the device."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_app.arrays import Floats
from ray_app.engine.batching import batches, padded
from ray_app.engine.classifier import Classifier, sigmoid, softmax
from ray_app.engine.device import CPU_TOKENS, Device, choose_device
from ray_app.engine.encoder import POOLINGS, EncoderClassifier
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from tests.support import bundles


def classifier(model: EncoderClassifier, budget: int, pad_id: int = 0) -> Classifier:
    return Classifier(model, Device(torch.device("cpu"), "fp32", budget), pad_id)


@torch.inference_mode()
def one_by_one(model: EncoderClassifier, rows: list[list[int]], pooling: str) -> Floats:
    """Logits by transformers alone: no padding, no mask, one text at a time."""
    logits = []
    for row in rows:
        hidden = model.encoder(input_ids=torch.tensor([row])).last_hidden_state[0]
        pooled = hidden[0] if pooling == "first" else hidden.mean(0)
        logits.append((model.head.weight @ pooled + model.head.bias).numpy())
    return np.stack(logits)


@pytest.fixture(scope="module", params=[(kind, pooling) for kind in bundles.KINDS for pooling in POOLINGS], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[EncoderClassifier, int, list[list[int]], Floats]:
    kind, pooling = request.param
    tokenizer = Tokenizer(bundles.hf_tokenizer(kind))
    model = bundles.classifier_model(kind, 5, pooling)
    plain = tokenizer.with_special_tokens(tokenizer([*bundles.sample_texts(40), *bundles.ODD_TEXTS]).sequences, 128)
    rows = [plain.row(i).tolist() for i in range(len(plain))]
    return model, tokenizer.pad_id, rows, one_by_one(model, rows, pooling)


@pytest.mark.parametrize("budget", [1, 100, CPU_TOKENS, 10**6])
def test_logits_do_not_depend_on_the_token_budget(case: Any, budget: int) -> None:
    model, pad_id, rows, expected = case
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(classifier(model, budget, pad_id)(Sequences.of(rows)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_logits_do_not_depend_on_order_and_neighbors(case: Any, seed: int) -> None:
    model, pad_id, rows, expected = case
    places = np.random.default_rng(seed).integers(0, len(rows), 30)
    logits = classifier(model, 512, pad_id)(Sequences.of([rows[i] for i in places]))
    np.testing.assert_allclose(logits, expected[places], atol=1e-5, rtol=0)


def test_identical_sequences_run_once_and_only_real_tokens_count() -> None:
    run = classifier(bundles.classifier_model(), 64)
    logits = run(Sequences.of([[2, 7, 8, 3], [2, 9, 3], [2, 7, 8, 3]]))
    assert (run.work["tokens"], run.work["sequences"], run.work["sequences_run"]) == (7, 3, 2)
    assert (logits[0] == logits[2]).all()
    assert (logits[0] != logits[1]).any()


def test_dropout_is_off_whatever_state_the_model_came_in() -> None:
    model = bundles.classifier_model(dropout=0.5).train()
    run = classifier(model, 64)
    rows = Sequences.of([[2, 7, 8, 3]])
    assert (run(rows) == run(rows)).all()


def test_no_sequences_give_no_logits() -> None:
    logits = classifier(bundles.classifier_model(outputs=5), 64)(Sequences.of([]))
    assert logits.shape == (0, 5)
    assert sigmoid(logits).shape == softmax(logits).shape == (0, 5)


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 120))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = [rows.tolist() for rows in batches(np.array(lengths, np.int64), budget)]
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= budget


def test_batches_are_full_and_of_similar_length() -> None:
    lengths = np.array([9, 1, 10, 2, 10, 1], np.int64)
    assert [rows.tolist() for rows in batches(lengths, 30)] == [[1, 5, 3], [0, 2, 4]]


def test_padding_is_masked() -> None:
    ids, mask = padded(Sequences.of([[5, 6, 7], [8]]), pad_id=1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@given(st.lists(st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_equal_torch_and_never_overflow(rows: list[list[float]]) -> None:
    logits = np.array(rows, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(sigmoid(logits), torch.tensor(logits).double().sigmoid(), atol=1e-6)
        np.testing.assert_allclose(softmax(logits), torch.tensor(logits).double().softmax(1), atol=1e-6)


def test_the_cpu_is_placed_in_fp32_with_the_threads_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        device = choose_device("cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert device == Device(torch.device("cpu"), "fp32", CPU_TOKENS)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match="--device tpu: write auto, cpu or cuda"):
        choose_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="--device cpu"):
        choose_device("cuda")
    assert choose_device("auto").torch_device.type == "cpu"
