"""The flat forward against the stock one, and full batches."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_app.engine.batching import batches, padded
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import Device
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.engine.unpadded import UnpaddedClassifier, supports
from tests.support.bundles import KINDS, ODD_TEXTS, classifier_model, hf_tokenizer, sample_texts

CPU = Device(torch.device("cpu"), "fp32", 256)


def sequences(kind: str) -> tuple[Sequences, int]:
    tokenizer = Tokenizer(hf_tokenizer(kind))
    reviews = tokenizer([*sample_texts(60), *ODD_TEXTS]).sequences
    return tokenizer.with_special_tokens(reviews, 64), tokenizer.pad_id


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_flat_gives_the_logits_of_the_stock_forward(kind: str, pooling: str) -> None:
    model = classifier_model(kind, pooling=pooling)
    found, pad_id = sequences(kind)
    ordered = found.take(np.argsort(found.lengths, kind="stable"))
    with torch.inference_mode():
        stock = model(*padded(ordered, pad_id))
    flat = UnpaddedClassifier(model, CPU.torch_device, CPU.backend)(ordered)
    assert torch.sigmoid(flat) == pytest.approx(torch.sigmoid(stock), abs=2e-6)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_pooled_vectors_come_beside_the_same_logits(pooling: str, flat: bool) -> None:
    model = classifier_model("roberta", pooling=pooling)
    found, pad_id = sequences("roberta")
    classifier = Classifier(model, CPU, pad_id, flat=flat)
    both = classifier(found, vectors=True)
    assert both[:, : classifier.outputs] == pytest.approx(classifier(found), abs=1e-6)
    head = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    assert both[:, classifier.outputs :] @ head[0].T + head[1] == pytest.approx(classifier(found), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_flat_is_the_default_and_stock_remains(kind: str) -> None:
    found, pad_id = sequences(kind)
    model = classifier_model(kind)
    flat, stock = (Classifier(model, CPU, pad_id, flat=choice) for choice in (True, False))
    assert flat.flat is not None
    assert stock.flat is None
    assert flat(found) == pytest.approx(stock(found), abs=2e-5)


def test_an_encoder_the_flat_engine_does_not_know_runs_stock_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = classifier_model()
    model.encoder.config.hidden_act = "relu"
    assert not supports(model)
    with caplog.at_level(logging.WARNING):
        assert Classifier(model, CPU, 0).stock is not None
    assert "run through transformers" in caplog.text


def test_full_batches_take_the_longest_rows_first_and_fill_up_with_shorter_ones() -> None:
    lengths = np.array([3, 9, 1, 4, 4, 30, 2])
    found = list(batches(lengths, 10, pad=False))
    assert [lengths[rows].tolist() for rows in found] == [[30], [1, 9], [2, 4, 4], [3]]
    assert sorted(np.concatenate(found)) == list(range(7))


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 120))
def test_full_batches_hold_every_row_once_in_ascending_order_within_the_budget(sizes: list[int], budget: int) -> None:
    lengths = np.array(sizes, np.int64)
    left = sorted(sizes)
    for rows in batches(lengths, budget, pad=False):
        taken = lengths[rows].tolist()
        assert taken == sorted(taken)
        assert len(rows) == 1 or sum(taken) <= budget
        for size in taken:
            left.remove(size)
        assert not [size for size in left if size <= budget - sum(taken)]  # nothing that is left would have fitted
    assert not left


def test_shapes_are_few_on_a_cpu() -> None:
    flat = UnpaddedClassifier(classifier_model(), CPU.torch_device, CPU.backend)
    rows = {flat.rows(count) for count in range(1, 1_025)}
    assert len(rows) == 56
    assert all(0 <= flat.rows(count) - count < (8 if count < 256 else 32) for count in range(1, 1_025))
