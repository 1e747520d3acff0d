"""Scores as likely as they are said to be: a trained model's logits scaled and shifted to fit the validation labels.

In: logits and true scores of validation labels. Out: the model, changed in its last layer alone. Training weighs rare
scores up, so that they are learned at all, and saw its own rows often; both make its probabilities wrong, and with them
which score is the likeliest. One scale and a shift per score mend that (vector scaling with a common scale; Guo et al.
2017, "On Calibration of Modern Neural Networks").
"""

import numpy as np
from scipy.optimize import minimize
from torch import nn

from ray_app.arrays import Floats, Ints

PRIOR = 4.0  # how strongly nothing is changed, as a multiple of a label's weight: a few labels move little


def fit(logits: Floats, true: Ints) -> tuple[float, Floats]:
    """The scale and the shifts [scores] of logits [labels, scores] under which `true` [labels] is likeliest."""
    width, labels = logits.shape[1], np.arange(len(true))

    def cost(parameters: Floats) -> float:
        moved = logits * np.exp(parameters[0]) + parameters[1:]
        peak = moved.max(1)
        surprise = np.log(np.exp(moved - peak[:, None]).sum(1)) + peak - moved[labels, true]
        return float(surprise.sum() + PRIOR * (parameters**2).sum())

    best = minimize(cost, np.zeros(width + 1), method="L-BFGS-B").x
    return float(np.exp(best[0])), np.asarray(best[1:], np.float32)


def apply(layer: nn.Linear, scale: float, shifts: Floats) -> None:
    """Scales and shifts the first outputs of a layer, as many as there are shifts."""
    scores = slice(len(shifts))
    layer.weight.data[scores] *= scale
    layer.bias.data[scores] *= scale
    layer.bias.data[scores] += layer.bias.new_tensor(shifts)
