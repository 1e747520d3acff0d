"""A head that starts from a logistic regression on pooled vectors."""

import numpy as np
import pytest
import torch

from ray_app.engine.classifier import sigmoid
from ray_app.engine.device import choose_device
from ray_app.engine.encoder import POOLINGS
from ray_app.engine.ragged import Sequences
from ray_app.engine.tokenizer import Tokenizer
from ray_app.training.classifier_task import Data, predict_logits
from ray_app.training.linear_probe import CERTAIN, initialize_head, pooled
from tests.support import bundles

CPU = choose_device("cpu")


def data(outputs: int = 3) -> tuple[Data, int]:
    """Output 0: whether a review names 배송; output 1 on every row; output 2 on none."""
    tokenizer = Tokenizer(bundles.hf_tokenizer("bert"))
    texts = [text for text in bundles.sample_texts(400) if text.strip()]
    targets = np.zeros((len(texts), outputs), np.float32)
    targets[:, 0] = ["배송" in text for text in texts]
    targets[:, 1] = 1
    return Data(tokenizer.with_special_tokens(tokenizer(texts).sequences, 64), targets), tokenizer.pad_id


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_vectors_are_what_the_head_reads(pooling: str) -> None:
    model, (rows, pad_id) = bundles.classifier_model("bert", 3, pooling), data()
    vectors = pooled(model, rows, np.array([5, 2]), CPU, pad_id)
    expected = predict_logits(model, rows.sequences.take(np.array([5, 2])), CPU, pad_id)
    by_head = vectors @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(by_head, expected, atol=1e-4)


def test_a_probed_head_tells_reviews_apart_before_any_training() -> None:
    model, (rows, pad_id) = bundles.classifier_model("bert", 3, "mean"), data()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model.train()
    initialize_head(model, rows, CPU, pad_id)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    probabilities = sigmoid(predict_logits(model, rows.sequences, CPU, pad_id))
    on = rows.targets[:, 0] > 0.5
    assert 10 < on.sum() < len(on) - 10
    ranks = np.argsort(np.argsort(probabilities[:, 0]))
    auc = (ranks[on].mean() - (on.sum() - 1) / 2) / (~on).sum()
    assert auc > 0.6  # of random vectors of width 32; a random head is at 0.5
    assert probabilities[:, 1] == pytest.approx(sigmoid(np.full((1, 1), CERTAIN))[0, 0])
    assert probabilities[:, 2] == pytest.approx(sigmoid(np.full((1, 1), -CERTAIN))[0, 0])


def test_the_same_seed_starts_the_same_head() -> None:
    rows, pad_id = data()
    heads = []
    for _ in range(2):
        model = bundles.classifier_model("bert", 3, "mean")
        initialize_head(model, rows, CPU, pad_id, seed=1)
        heads.append(model.head.weight.detach().clone())
    assert torch.equal(*heads)


def test_one_row_is_enough() -> None:
    model = bundles.classifier_model("bert", 3)
    initialize_head(model, Data(Sequences.of([[2, 7, 3]]), np.ones((1, 3), np.float32)), CPU, 0)
    assert torch.isfinite(model.head.weight).all()
