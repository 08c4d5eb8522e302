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


def embedding(W: Any, ids: Any) -> Floats:
    return np.array([W[int(n)] for n in np.ravel(ids)], dtype=np.float64).reshape(*np.shape(ids), W.shape[1])


def _mean_of_values(x: Any, cost: Any, t: Any, sample_weight: Any) -> Floats:
    """The weighted mean of what values cost: rows count as often as their weights say."""
    weights = [1.0] * len(x) if sample_weight is None else [float(w) for w in sample_weight]
    rows = [
        [cost(float(a) - float(b)) for a, b in zip(np.ravel(r), np.ravel(s), strict=True)]
        for r, s in zip(x, t, strict=True)
    ]
    total = math.fsum(w * math.fsum(row) / len(row) for w, row in zip(weights, rows, strict=True))
    return np.asarray(total / math.fsum(weights) if any(weights) else 0.0)


def squared_error(x: Any, t: Any, *, sample_weight: Any = None) -> Floats:
    return _mean_of_values(x, lambda e: e * e, t, sample_weight)


def absolute_error(x: Any, t: Any, *, sample_weight: Any = None) -> Floats:
    return _mean_of_values(x, abs, t, sample_weight)


def huber(x: Any, t: Any, *, delta: float = 1.0, sample_weight: Any = None) -> Floats:
    def cost(e: float) -> float:
        return 0.5 * e * e if abs(e) <= delta else delta * (abs(e) - 0.5 * delta)

    return _mean_of_values(x, cost, t, sample_weight)


def gaussian_kl(x: Any, t: Any = None, *, sample_weight: Any = None) -> Floats:
    """Expectation of the log ratio of the densities, by its formula for each pair of normal distributions."""
    weights = [1.0] * len(x) if sample_weight is None else [float(w) for w in sample_weight]
    size, total = x.shape[1] // 2, 0.0
    for n, weight in enumerate(weights):
        for d in range(size):
            mean, std = float(x[n, d]), math.exp(0.5 * float(x[n, size + d]))
            other, spread = (0.0, 1.0) if t is None else (float(t[n, d]), math.exp(0.5 * float(t[n, size + d])))
            total += weight * (math.log(spread / std) + (std**2 + (mean - other) ** 2) / (2 * spread**2) - 0.5)
    return np.asarray(total / math.fsum(weights) if any(weights) else 0.0)


def candidate_scores(h: Any, W: Any, ids: Any) -> Floats:
    rows = [[float(np.dot(h[n], W[int(k)])) for k in np.ravel(row)] for n, row in enumerate(ids)]
    return np.array(rows, dtype=np.float64).reshape(np.shape(ids))


def negative_sampling(x: Any, t: Any) -> Floats:
    rows = np.reshape(x, (-1, np.shape(x)[-1]))
    labels = np.argmax(t, axis=-1).ravel() if np.ndim(t) == np.ndim(x) else np.ravel(t)
    costs = [
        math.fsum(math.log1p(math.exp(-float(v) if j == k else float(v))) for j, v in enumerate(row))
        for row, k in zip(rows, labels, strict=True)
    ]
    return np.asarray(math.fsum(costs) / len(costs))


def hinge(x: Any, t: Any, *, margin: float = 1.0, sample_weight: Any = None) -> Floats:
    weights = [1.0] * len(x) if sample_weight is None else [float(w) for w in sample_weight]
    labels = [int(np.argmax(row)) if np.ndim(row) else int(row) for row in t]
    costs = [
        math.fsum(max(0.0, margin + float(v) - float(row[k])) for j, v in enumerate(row) if j != k)
        for row, k in zip(x, labels, strict=True)
    ]
    total = math.fsum(w * cost for w, cost in zip(weights, costs, strict=True))
    return np.asarray(total / math.fsum(weights) if any(weights) else 0.0)


def sequence_loss(x: Any, t: Any, *, ignore_label: int | None = None, mask: Any = None) -> Floats:
    """The mean cross entropy of the positions that count, each by itself."""
    total = counted = 0.0
    for place in np.ndindex(x.shape[:-1]):
        weight = 1.0 if mask is None else float(mask[place if np.ndim(mask) == len(place) else place[0]])
        if np.ndim(t) < x.ndim and t[place] == ignore_label:
            weight = 0.0
        scores = [float(v) for v in x[place]]
        log_sum = math.log(math.fsum(math.exp(v) for v in scores))
        target = t[place]
        shares = target if np.ndim(target) else [float(k == target) for k in range(len(scores))]
        total += weight * math.fsum(s * (log_sum - v) for s, v in zip(shares, scores, strict=True))
        counted += weight
    return np.asarray(total / counted if counted else 0.0)


def _gate(x: Any, h: Any, Wx: Any, Wh: Any, b: Any, k: int) -> float:
    """``x Wx + h Wh + b`` of one unit of one gate."""
    return math.fsum([*(v * Wx[d, k] for d, v in enumerate(x)), *(v * Wh[j, k] for j, v in enumerate(h)), b[k]])


def attention(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, block: int = 0) -> tuple[Floats, ...]:
    """For each query by itself: all scores, their softmax, and the sum of the values."""
    y, log_sum = np.zeros((*q.shape[:3], v.shape[3])), np.full((*q.shape[:3], 1), -1e30)
    for n, h, t in np.ndindex(q.shape[:3]):
        seen = [s for s in range(k.shape[2]) if mask is None or mask[n, s]]
        seen = [s for s in seen if not causal or s <= t + k.shape[2] - q.shape[2]]
        scores = [math.fsum(a * b for a, b in zip(q[n, h, t], k[n, h, s], strict=True)) for s in seen]
        weights = [math.exp(score / math.sqrt(q.shape[3])) for score in scores]
        if seen:
            log_sum[n, h, t] = math.log(math.fsum(weights))
            y[n, h, t] = sum(w * v[n, h, s] for w, s in zip(weights, seen, strict=True)) / math.fsum(weights)
    return y, log_sum


def rotary(x: Any, *, base: float = 10000.0, first: int = 0, inverse: bool = False) -> Floats:
    """Products of complex numbers, of which a pair is one."""
    half = x.shape[-1] // 2
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape[:-1], half):
        *outer, d = place
        angle = (outer[-1] + first) * base ** (-d / half) * (-1 if inverse else 1)
        turned = complex(x[place], x[(*outer, d + half)]) * complex(math.cos(angle), math.sin(angle))
        y[place], y[(*outer, d + half)] = turned.real, turned.imag
    return y


def sinusoidal_positions(x: Any, *, base: float = 10000.0) -> Floats:
    y = np.array(x, dtype=np.float64)
    for n, t, d in np.ndindex(x.shape):
        angle = t / base ** ((d - d % 2) / x.shape[2])
        y[n, t, d] += math.cos(angle) if d % 2 else math.sin(angle)
    return y


def learned_positions(x: Any, W: Any) -> Floats:
    return np.array([[[v + W[t, d] for d, v in enumerate(step)] for t, step in enumerate(row)] for row in x])


def multi_head_attention(
    x: Any, source: Any, p: Any, heads: int, mask: Any = None, causal: bool = False, rotate: bool = False
) -> Floats:
    """Heads by slices of the values, as the paper has them."""
    size = x.shape[2] // heads

    def mapped(a: Any, one: str) -> Any:
        return affine_of_positions(a, p[f"W{one}"], p.get(f"b{one}"))

    q, k, v = mapped(x, "q"), mapped(source, "k"), mapped(source, "v")
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        a, b = (rotary(one[:, None, :, own]) if rotate else one[:, None, :, own] for one in (q, k))
        parts.append(attention(a, b, v[:, None, :, own], mask, causal=causal)[0][:, 0])
    return mapped(np.concatenate(parts, axis=-1), "o")


def _logistic(v: float) -> float:
    return 1.0 / (1.0 + math.exp(-v))


def rnn(x: Any, h: Any, Wx: Any, Wh: Any, b: Any, mask: Any = None) -> Floats:
    y = np.zeros((*x.shape[:2], h.shape[1]))
    for n, t in np.ndindex(x.shape[:2]):
        before = y[n, t - 1] if t else h[n]
        new = [math.tanh(_gate(x[n, t], before, Wx, Wh, b, k)) for k in range(h.shape[1])]
        y[n, t] = new if mask is None or mask[n, t] else before
    return y


def lstm(x: Any, h: Any, c: Any, Wx: Any, Wh: Any, b: Any, mask: Any = None) -> tuple[Floats, ...]:
    size = h.shape[1]
    y, cells = np.zeros((*x.shape[:2], size)), np.zeros((*x.shape[:2], size))
    gates = np.zeros((*x.shape[:2], 4 * size))
    for n, t in np.ndindex(x.shape[:2]):
        before, memory = (y[n, t - 1], cells[n, t - 1]) if t else (h[n], c[n])
        for k in range(size):
            i, f, g, o = (_gate(x[n, t], before, Wx, Wh, b, k + m * size) for m in range(4))
            i, f, g, o = _logistic(i), _logistic(f), math.tanh(g), _logistic(o)
            gates[n, t, k::size] = i, f, g, o
            counts = mask is None or mask[n, t]
            cells[n, t, k] = f * memory[k] + i * g if counts else memory[k]
            y[n, t, k] = o * math.tanh(cells[n, t, k]) if counts else before[k]
    return y, cells, gates


def gru(x: Any, h: Any, Wx: Any, Wh: Any, b: Any, bh: Any, mask: Any = None) -> tuple[Floats, ...]:
    size = h.shape[1]
    y, gates = np.zeros((*x.shape[:2], size)), np.zeros((*x.shape[:2], 4 * size))
    nothing = np.zeros(size)
    for n, t in np.ndindex(x.shape[:2]):
        before = y[n, t - 1] if t else h[n]
        for k in range(size):
            r, z = (_logistic(_gate(x[n, t], before, Wx, Wh, b, k + m * size)) for m in range(2))
            memory = math.fsum([*(v * Wh[j, k + 2 * size] for j, v in enumerate(before)), bh[k]])
            new = math.tanh(_gate(x[n, t], nothing, Wx, 0 * Wh, b, k + 2 * size) + r * memory)
            gates[n, t, k::size] = r, z, new, memory
            y[n, t, k] = (1 - z) * new + z * before[k] if mask is None or mask[n, t] else before[k]
    return y, gates
