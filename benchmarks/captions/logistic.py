"""Logistic regression for the detectors of the embedded backends: a few dozen measurements, a few thousand examples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def logistic(inputs: Float, target: Float, shrink: float = 3.0) -> Float:
    """Weights (bias last) of a logistic regression with squared shrinkage, by Newton's method."""
    x = np.c_[inputs, np.ones(len(inputs))]
    penalty = np.r_[np.full(inputs.shape[1], shrink), 1e-6]
    weights = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ weights))
        step = np.linalg.solve(
            (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty), x.T @ (p - target) + penalty * weights
        )
        weights -= step
        if np.abs(step).max() < 1e-7:
            break
    return weights


def standardised(features: Float) -> tuple[Float, Float, Float]:
    """The features with mean 0 and deviation 1, clipped at 4, and the means and scales."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    return np.clip((features - mean) / scale, -4, 4), mean, scale
