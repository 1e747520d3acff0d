"""Logits against transformers alone, whatever the batch; batches, probabilities, the device."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_app.arrays import Floats
from ray_app.engine.classifier import Classifier, sigmoid, softmax
from ray_app.engine.device import CPU_TOKENS, Device
from ray_app.engine.encoder import POOLINGS, EncoderClassifier
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
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


@given(st.lists(st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_equal_torch_and_never_overflow(rows: list[list[float]]) -> None:
    logits = np.array(rows, np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(sigmoid(logits), torch.tensor(logits).double().sigmoid(), atol=1e-6)
        np.testing.assert_allclose(softmax(logits), torch.tensor(logits).double().softmax(1), atol=1e-6)
