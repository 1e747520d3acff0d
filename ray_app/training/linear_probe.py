"""A head to start from: logistic regression on an encoder's pooled vectors before any of its weights move.

In: a model and its training data. Out: the model with its head's weights set. From a random head, fine-tuning first
bends the encoder towards noise, and an encoder whose vectors all point one way (a mean cosine of 0.87 between any two
texts in E5) hardly starts to learn: linear probing first, then fine-tuning (Kumar et al. 2022, arXiv:2202.10054).
"""

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ray_app.arrays import Flags, Floats, Ints
from ray_app.engine.classifier import Classifier
from ray_app.engine.device import Device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.training.classifier_task import Data

ROWS = 2_000  # the most that the probe is fitted on: a forward pass costs a third of a training step
CERTAIN = 5.0  # log odds of an output that is the same on every row
STRENGTH = 0.002  # inverse weight of the L2 penalty, on standardized vectors: surer heads fine-tuned worse


def initialize_head(model: EncoderClassifier, data: Data, device: Device, pad_id: int, seed: int = 0) -> None:
    """Sets the weights of a multi-label head in place, by one regression per output.

    For keywords alone: a score's head that starts from a review's overall sentiment learned to read the keyword no
    better.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:ROWS])
    vectors, targets = pooled(model, data, rows, device, pad_id), data.targets[rows] > 0.5
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-6
    with torch.no_grad():
        for output in range(model.head.out_features):
            weight, bias = _regression((vectors - mean) / spread, targets[:, output])
            model.head.weight[output] = torch.as_tensor(weight / spread)
            model.head.bias[output] = bias - float(weight @ (mean / spread))


def pooled(model: EncoderClassifier, data: Data, rows: Ints, device: Device, pad_id: int) -> Floats:
    """[rows, hidden] what the head reads: the output of a head that copies."""
    hidden = model.head.in_features
    copy = EncoderClassifier(model.encoder, hidden, 0.0, model.pooling)
    copy.batching = model.batching
    nn.init.eye_(copy.head.weight)
    nn.init.zeros_(copy.head.bias)
    was_training = model.training
    vectors = Classifier(copy, replace(device, backend="fp32"), pad_id)(data.sequences.take(rows))
    model.train(was_training)
    return vectors


def _regression(x: Floats, on: Flags) -> tuple[Floats, float]:
    """Weights [hidden] and bias; an output that is the same on every row gets a constant."""
    from sklearn.linear_model import LogisticRegression

    if on.all() or not on.any():
        return np.zeros(x.shape[1], np.float32), CERTAIN if on.all() else -CERTAIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a regression that stops early is good enough to start from
        fitted = LogisticRegression(C=STRENGTH, max_iter=100).fit(x, on)
    return np.asarray(fitted.coef_[0], np.float32), float(fitted.intercept_[0])
