"""Oracles: each op in loops over plain numbers in float64; nothing here calls xpdl.

Slow and obvious on purpose. Gradients are not derived a second time: `central_differences` of these gives them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


def central_differences(f: Callable[..., Any], arrays: Sequence[Any], which: int, dy: Any, h: float = 1e-5) -> Floats:
    """Gradient of ``sum(dy * f(*arrays))`` with respect to ``arrays[which]``, entry by entry."""
    arrays = list(arrays)
    x = np.array(arrays[which], dtype=np.float64)
    arrays[which] = x
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + h
        above = np.sum(dy * f(*arrays))
        x[place] = kept - h
        below = np.sum(dy * f(*arrays))
        x[place] = kept
        gradient[place] = (above - below) / (2 * h)
    return gradient


def each(f: Callable[[float], float], x: Any) -> Floats:
    """`f` of every number of `x`."""
    return np.array([f(float(v)) for v in np.ravel(x)], dtype=np.float64).reshape(np.shape(x))


def both(border: Any) -> tuple[int, int]:
    """(before, after) of a border along one axis."""
    return (border, border) if isinstance(border, int) else tuple(border)


def sizes(shape: Sequence[int], window: Sequence[int], stride: Any, pad: Any, dilation: Any = None) -> tuple[int, ...]:
    """Positions of a window, found by sliding it: it must lie inside the padded image."""
    counts = []
    for length, taps, step, border, gap in zip(shape, window, stride, pad, dilation or (1,) * len(window), strict=True):
        before, after = both(border)
        starts = range(-before, length + after, step)
        counts.append(sum(1 for start in starts if start + gap * (taps - 1) < length + after))
    return tuple(counts)


def bordered(x: Any, pad: Sequence[Any], border: float) -> Floats:
    """Images (N, C, H, W) of float64 with `border` around each; likewise along other axes."""
    around = [(0, 0), (0, 0), *map(both, pad)]
    return np.pad(np.asarray(x, dtype=np.float64), around, constant_values=border)


def window(image: Floats, place: Sequence[int], size: Any, stride: Any, dilation: Any) -> list[float]:
    """The numbers that the window at `place` sees in one image with its border, row by row."""
    seen = tuple(
        slice(at * step, at * step + gap * (taps - 1) + 1, gap)
        for at, step, taps, gap in zip(place, stride, size, dilation or (1,) * len(size), strict=True)
    )
    return image[seen].ravel().tolist()


def as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def im2col(x: Any, *, filter_h: int, filter_w: int, stride: Any = 1, pad: Any = 0) -> Floats:
    size, stride, pad = (filter_h, filter_w), as_pair(stride), as_pair(pad)
    oh, ow = sizes(x.shape[2:], size, stride, pad)
    rows = [
        [v for image in images for v in window(image, (i, j), size, stride, (1, 1))]
        for images in bordered(x, pad, 0.0)
        for i in range(oh)
        for j in range(ow)
    ]
    return np.array(rows, dtype=np.float64)


def col2im(col: Any, *, input_shape: Any, filter_h: int, filter_w: int, stride: Any = 1, pad: Any = 0) -> Floats:
    """Add every entry to the pixel whose number `im2col` would have put there: images of numbered pixels tell which."""
    numbered = np.arange(1.0, math.prod(input_shape) + 1).reshape(input_shape)
    source = im2col(numbered, filter_h=filter_h, filter_w=filter_w, stride=stride, pad=pad)
    image = np.zeros(math.prod(input_shape))
    for pixel, value in zip(source.ravel(), np.ravel(col), strict=True):
        if pixel:
            image[int(pixel) - 1] += value
    return image.reshape(input_shape)


def convolution(
    x: Any, W: Any, b: Any = None, *, stride: Any = (1, 1), pad: Any = (0, 0), dilation: Any = (1, 1), groups: int = 1
) -> Floats:
    filters, depth, *size = W.shape
    out = sizes(x.shape[2:], size, stride, pad, dilation)
    per_group = filters // groups
    images = bordered(x, pad, 0.0)
    y = np.zeros((x.shape[0], filters, *out))
    for n, group, *place in np.ndindex(x.shape[0], groups, *out):
        channels = images[n, group * depth : (group + 1) * depth]
        seen = np.array([window(image, place, size, stride, dilation) for image in channels])
        for k in range(group * per_group, (group + 1) * per_group):
            y[(n, k, *place)] = np.sum(W[k].reshape(depth, -1) * seen) + (0.0 if b is None else b[k])
    return y


def max_pooling(x: Any, *, size: Any, stride: Any, pad: Any = (0, 0), dilation: Any = None) -> Floats:
    return _pooling(x, max, size, stride, pad, dilation, -math.inf)


def average_pooling(
    x: Any, *, size: Any, stride: Any, pad: Any = (0, 0), dilation: Any = None, counted_pad: Any = None
) -> Floats:
    """Sums over windows divided by how many of their values count, those of the image and of a part of the border."""
    counts = np.pad(
        np.ones((1, 1, *x.shape[2:])), [(0, 0), (0, 0), *map(both, counted_pad or pad)], constant_values=1.0
    )
    rest = [tuple(np.subtract(both(a), both(b))) for a, b in zip(pad, counted_pad or pad, strict=True)]
    counted = _pooling(counts, sum, size, stride, rest, dilation, 0.0)
    return _pooling(x, sum, size, stride, pad, dilation, 0.0) / np.maximum(counted, 1.0)


def global_average_pooling(x: Any) -> Floats:
    axes = (1,) * (x.ndim - 2)
    return average_pooling(x, size=x.shape[2:], stride=axes, pad=(0,) * len(axes)).reshape(x.shape[:2])


def _pooling(
    x: Any, pick: Callable[[list[float]], float], size: Any, stride: Any, pad: Any, dilation: Any, border: float
) -> Floats:
    images = bordered(x, pad, border)
    y = np.zeros((*x.shape[:2], *sizes(x.shape[2:], size, stride, pad, dilation)))
    for n, c, *place in np.ndindex(y.shape):
        y[(n, c, *place)] = pick(window(images[n, c], place, size, stride, dilation))
    return y


def affine(x: Any, W: Any, b: Any = None) -> Floats:
    rows = [np.ravel(row) for row in x]
    y = np.zeros((len(rows), W.shape[1]))
    for n, m in np.ndindex(y.shape):
        y[n, m] = sum(rows[n][d] * W[d, m] for d in range(W.shape[0])) + (0.0 if b is None else b[m])
    return y


def multiply(x: Any, y: Any) -> Any:
    both = np.broadcast_arrays(x, y)
    return np.array([a * b for a, b in zip(*(one.ravel() for one in both), strict=True)]).reshape(both[0].shape)


def part(x: Any, start: int, stop: int, axis: int) -> Any:
    return np.stack([np.take(x, place, axis) for place in range(start, stop)], axis)


def add(x: Any, y: Any) -> Floats:
    total = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        total[place] = x[place] + y[place]
    return total


def relu(x: Any) -> Floats:
    return each(lambda v: v if v > 0 else 0.0, x)


def sigmoid(x: Any) -> Floats:
    return each(lambda v: 0.5 * (1.0 + math.tanh(0.5 * v)), x)


def tanh(x: Any) -> Floats:
    return each(math.tanh, x)


def softmax(x: Any, *, axis: int = -1) -> Floats:
    def one(row: Any) -> Floats:
        # 1 / sum(exp(other - own)) needs no maximum
        return np.array([1.0 / math.fsum(math.exp(min(b - a, 700.0)) for b in row) for a in row])

    return np.apply_along_axis(one, axis, np.asarray(x, dtype=np.float64))


def log_softmax(x: Any, *, axis: int = -1) -> Floats:
    return np.log(softmax(x, axis=axis))


def batch_normalization(
    x: Any, gamma: Any, beta: Any, *, eps: float, activation: str | None = None, residual: Any = 0.0
) -> tuple[Floats, ...]:
    """``y, mean, var``, channel by channel."""
    mean, var = np.zeros_like(gamma), np.zeros_like(gamma)
    for c in range(x.shape[1]):
        values = [float(v) for v in np.ravel(x[:, c])]
        mean[c] = math.fsum(values) / len(values)
        var[c] = math.fsum((v - mean[c]) ** 2 for v in values) / len(values)
    return normalize(x, gamma, beta, mean, var, eps=eps, activation=activation, residual=residual), mean, var


def tracked_batch_normalization(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any,
    running_var: Any,
    *,
    momentum: float,
    eps: float,
    activation: str | None = None,
    residual: Any = 0.0,
) -> tuple[Floats, ...]:
    """``y, mean, var`` and new running statistics: old ones, moved towards those of the batch."""
    y, mean, var = batch_normalization(x, gamma, beta, eps=eps, activation=activation, residual=residual)
    step = 1 - momentum
    return y, mean, var, running_mean + step * (mean - running_mean), running_var + step * (var - running_var)


def normalize(
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    var: Any,
    *,
    eps: float,
    activation: str | None = None,
    residual: Any = 0.0,
) -> Floats:
    """`y` with given statistics."""
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - mean[c]) / math.sqrt(var[c] + eps) + beta[c]
    y += residual
    return relu(y) if activation == "relu" else y


def dropout(x: Any, mask: Any, *, scale: float = 1.0) -> Floats:
    kept = [float(v) * scale if keep else 0.0 for v, keep in zip(np.ravel(x), np.ravel(mask), strict=True)]
    return np.array(kept).reshape(np.shape(x))


def softmax_with_loss(
    x: Any, t: Any, class_weights: Any = None, *, label_smoothing: float = 0.0, sample_weight: Any = None
) -> tuple[Floats, Floats]:
    """Loss and probabilities; `t` holds labels or weights over the classes.

    A mixture of the loss of `t` and that of targets all alike; labels count as often as their classes' weights say, and rows
    as often as theirs.
    """
    total = counted = 0.0
    for row, target, often in zip(x, t, _of_rows(x, sample_weight), strict=True):
        of_class = [1.0] * len(row) if class_weights is None else [float(w) for w in class_weights]
        shares = target if np.ndim(target) else [float(k == target) for k in range(len(row))]
        top = max(row)
        log_sum = top + math.log(math.fsum(math.exp(v - top) for v in row))
        costs = [w * (log_sum - v) for v, w in zip(row, of_class, strict=True)]
        own = math.fsum(share * cost for share, cost in zip(shares, costs, strict=True) if share)
        alike = math.fsum(costs) / len(row) if label_smoothing else 0.0
        total += often * (own + label_smoothing * (alike - own))
        counted += often * (1.0 if np.ndim(target) else of_class[target])
    return np.asarray(total / counted if counted else 0.0), softmax(x)


def _of_rows(x: Any, sample_weight: Any) -> list[float]:
    return [1.0] * len(x) if sample_weight is None else [float(weight) for weight in sample_weight]


def _mean_of_rows(x: Any, costs: list[float], sample_weight: Any) -> Floats:
    """The weighted mean over rows of what their values cost, added up in a row."""
    weights, width = _of_rows(x, sample_weight), len(costs) // len(x)
    total = math.fsum(w * math.fsum(costs[i * width : (i + 1) * width]) for i, w in enumerate(weights))
    counted = math.fsum(weights)
    return np.asarray(total / counted if counted else 0.0)


def sigmoid_with_loss(x: Any, t: Any, *, sample_weight: Any = None) -> tuple[Floats, Floats]:
    y = sigmoid(x)
    costs = [
        -(target * math.log(p) if target else 0.0) - ((1 - target) * math.log(1 - p) if target < 1 else 0.0)
        for p, target in zip(np.ravel(y), np.ravel(t).astype(float), strict=True)
    ]
    return _mean_of_rows(x, costs, sample_weight), y


def identity_with_loss(x: Any, t: Any, *, sample_weight: Any = None) -> Floats:
    costs = [0.5 * (a - b) ** 2 for a, b in zip(np.ravel(x), np.ravel(t), strict=True)]
    return _mean_of_rows(x, costs, sample_weight)


def dropout_mask(
    shape: Sequence[int], drop_ratio: float, words: Sequence[int], counter: int, first_row: int = 0
) -> Any:
    """The counter-based mask, element by element in Python's integers."""
    digest = hashlib.sha256(f"{counter}/{','.join(map(str, words))}.step".encode()).digest()
    keys = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]

    def lowbias32(h: int) -> int:
        h ^= h >> 16
        h = h * 0x7FEB352D % 2**32
        h ^= h >> 15
        h = h * 0x846CA68B % 2**32
        return h ^ h >> 16

    size, first = math.prod(shape), first_row * math.prod(shape[1:])
    kept = [lowbias32(lowbias32(first + i ^ keys[0]) ^ keys[1]) >> 8 >= drop_ratio * 2**24 for i in range(size)]
    return np.array(kept, dtype=bool).reshape(shape)
