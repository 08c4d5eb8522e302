"""Oracles of layers beyond the book's, in loops over plain numbers in float64, as those of `tests.oracles`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.oracles import Floats, each


def leaky_relu(x: Any, *, slope: float = 0.01) -> Floats:
    return each(lambda v: max(v, 0.0) + slope * min(v, 0.0), x)


def elu(x: Any, *, alpha: float = 1.0) -> Floats:
    return each(lambda v: v if v > 0 else alpha * (math.exp(v) - 1.0), x)


def silu(x: Any) -> Floats:
    return each(lambda v: v / (1.0 + math.exp(-v)), x)


def softplus(x: Any) -> Floats:
    return each(lambda v: math.log(1.0 + math.exp(v)), x)


def gelu(x: Any, *, approximate: str = "none") -> Floats:
    if approximate == "tanh":
        return each(lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))), x)
    return each(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))), x)


def global_max_pooling(x: Any) -> Floats:
    return np.array([[max(map(float, channel.ravel())) for channel in image] for image in x])


def affine_of_positions(x: Any, W: Any, b: Any = None) -> Floats:
    y = np.zeros((*x.shape[:-1], W.shape[1]))
    for place in np.ndindex(y.shape):
        vector = x[place[:-1]]
        y[place] = sum(v * w for v, w in zip(vector, W[:, place[-1]], strict=True))
        y[place] += 0.0 if b is None else b[place[-1]]
    return y


def _moments(values: Any) -> tuple[float, float]:
    """Mean and biased variance."""
    numbers = [float(v) for v in np.ravel(values)]
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.fsum((v - mean) ** 2 for v in numbers) / len(numbers)


def layer_normalization(x: Any, gamma: Any, beta: Any, *, eps: float) -> tuple[Floats, ...]:
    y, means, stds = np.zeros(x.shape), np.zeros((*x.shape[:-1], 1)), np.zeros((*x.shape[:-1], 1))
    for place in np.ndindex(x.shape[:-1]):
        mean, var = _moments(x[place])
        means[place], stds[place] = mean, math.sqrt(var + eps)
        y[place] = [g * (v - mean) / stds[place][0] + b for v, g, b in zip(x[place], gamma, beta, strict=True)]
    return y, means, stds


def rms_normalization(x: Any, gamma: Any, *, eps: float) -> tuple[Floats, ...]:
    y, roots = np.zeros(x.shape), np.zeros((*x.shape[:-1], 1))
    for place in np.ndindex(x.shape[:-1]):
        roots[place] = math.sqrt(math.fsum(float(v) ** 2 for v in x[place]) / x.shape[-1] + eps)
        y[place] = [g * v / roots[place][0] for v, g in zip(x[place], gamma, strict=True)]
    return y, roots


def group_normalization(x: Any, gamma: Any, beta: Any, *, groups: int, eps: float) -> tuple[Floats, ...]:
    y, means, stds = np.zeros(x.shape), np.zeros((x.shape[0], groups, 1)), np.zeros((x.shape[0], groups, 1))
    size = x.shape[1] // groups
    for n, c in np.ndindex(x.shape[:2]):
        group = c // size
        mean, var = _moments(x[n, group * size : (group + 1) * size])
        means[n, group], stds[n, group] = mean, math.sqrt(var + eps)
        y[n, c] = gamma[c] * (x[n, c] - mean) / math.sqrt(var + eps) + beta[c]
    return y, means, stds
