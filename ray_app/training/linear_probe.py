"""A head to start from: logistic regression on an encoder's pooled vectors before any of its weights move.

From a random head, fine-tuning first bends the encoder towards noise, and an encoder whose vectors all point one way
(a mean cosine of 0.87 between any two texts in E5) hardly gets going: linear probing first, then fine-tuning
(Kumar et al. 2022, arXiv:2202.10054).
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from ray_app.arrays import Floats
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import Device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.training.classifier_task import Data

ROWS = 2_000  # that the probe is fitted on at most: its forward passes cost a third of a training step each
CERTAIN = 5.0  # log odds of an output that is the same on every row
STRENGTH = 0.002  # inverse weight of the L2 penalty, on standardised vectors: surer heads learned worse afterwards


def initialize_head(model: EncoderClassifier, data: Data, placement: Device, pad_id: int, seed: int = 0) -> None:
    """Sets the weights of a multi-label head in place, one regression an output.

    For keywords alone: a score's head that starts from a review's general tone learnt to read the keyword no better.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:ROWS])
    vectors, targets = pooled(model, data, rows, placement, pad_id), np.asarray(data.targets)[rows] > 0.5
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-6
    with torch.no_grad():
        for output in range(model.head.out_features):
            weight, bias = _regression((vectors - mean) / spread, targets[:, output])
            model.head.weight[output] = torch.as_tensor(weight / spread)
            model.head.bias[output] = bias - float(weight @ (mean / spread))


def pooled(model: EncoderClassifier, data: Data, rows: Any, placement: Device, pad_id: int) -> Floats:
    """[rows, hidden] what the head reads: the answers of a head that copies."""
    hidden = model.head.in_features
    copy = EncoderClassifier(model.encoder, hidden, 0.0, model.pooling)
    nn.init.eye_(copy.head.weight)
    nn.init.zeros_(copy.head.bias)
    was_training = model.training
    vectors = Classifier(copy, Device(placement.device, "fp32", placement.token_budget), pad_id)(
        data.sequences.take(rows)
    )
    model.train(was_training)
    return vectors


def _regression(x: Floats, on: Any) -> tuple[Floats, float]:
    """Weights [hidden] and bias."""
    from sklearn.linear_model import LogisticRegression

    if on.all() or not on.any():
        return np.zeros(x.shape[1], np.float32), CERTAIN if on.all() else -CERTAIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a probe that stops early is good enough to start from
        fitted = LogisticRegression(C=STRENGTH, max_iter=100).fit(x, on)
    return np.asarray(fitted.coef_[0], np.float32), float(fitted.intercept_[0])
