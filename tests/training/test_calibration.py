"""A score's logits, scaled and shifted: what the fit finds, and that the last layer says it."""

import numpy as np
import torch
from torch import nn

from ray_app.training import calibration


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """A true class per row, as likely as the logits say."""
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    picked: np.ndarray = (chance.cumsum(1) > np.random.default_rng(seed).random((len(logits), 1))).argmax(1)
    return picked


def test_what_training_moved_is_moved_back() -> None:
    """Logits that are twice too sure, and too fond of the last score."""
    honest = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32) * 2
    true = drawn(honest)
    scale, shifts = calibration.fit(honest * 2 + np.array([0, 0, 1.0]), true)
    assert abs(scale - 0.5) < 0.02
    np.testing.assert_allclose(shifts - shifts[0], [0, 0, -0.5], atol=0.06)


def test_a_handful_of_labels_changes_little_and_a_score_that_none_has_is_kept() -> None:
    logits = np.zeros((3, 5), np.float32)
    scale, shifts = calibration.fit(logits, np.array([4, 4, 4]))
    assert abs(scale - 1) < 1e-3
    assert np.abs(shifts).max() < 0.4
    many = calibration.fit(np.zeros((500, 5), np.float32), np.full(500, 4))[1]
    assert np.isfinite(many).all()
    assert many[4] > 2


def test_without_labels_nothing_changes() -> None:
    scale, shifts = calibration.fit(np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
    assert scale == 1
    assert not shifts.any()


def test_the_layer_says_what_was_fitted_and_its_other_outputs_stay() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(4, 6), torch.randn(7, 4)
    before = layer(rows)
    calibration.apply(layer, 0.5, np.array([1, 0, -1, 0, 2], np.float32))
    wanted = before[:, :5] * 0.5 + torch.tensor([1.0, 0, -1, 0, 2])
    torch.testing.assert_close(layer(rows), torch.cat([wanted, before[:, 5:]], 1))
