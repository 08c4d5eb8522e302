"""Oracles of transposed convolution and upsampling: loops over plain numbers in float64; nothing here calls xpdl."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.oracles import Floats, both


def convolution_transpose(
    x: Any,
    W: Any,
    b: Any = None,
    *,
    stride: Any = (1, 1),
    pad: Any = (0, 0),
    output_pad: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Floats:
    """Each number of `x` adds its multiple of a filter; then the border is taken away."""
    n, channels, *length = x.shape
    depth, size = W.shape[1], W.shape[2:]
    full = [
        (count - 1) * step + gap * (taps - 1) + 1 + more
        for count, step, gap, taps, more in zip(length, stride, dilation, size, output_pad, strict=True)
    ]
    y = np.zeros((n, depth * groups, *full))
    for image, c, *place in np.ndindex(x.shape):
        group = c // (channels // groups)
        for k, *taps in np.ndindex(W.shape[1:]):
            at = [p * step + tap * gap for p, step, tap, gap in zip(place, stride, taps, dilation, strict=True)]
            y[(image, group * depth + k, *at)] += x[(image, c, *place)] * W[(c, k, *taps)]
    for axis, border in enumerate(pad, start=2):
        before, after = both(border)
        y = np.take(y, range(before, y.shape[axis] - after), axis)
    return y if b is None else y + np.reshape(b, (-1, *(1,) * len(length)))


def upsampling(x: Any, scale: Any) -> Floats:
    out = [length * by for length, by in zip(x.shape[2:], scale, strict=True)]
    y = np.zeros((*x.shape[:2], *out))
    for n, c, *place in np.ndindex(y.shape):
        y[(n, c, *place)] = x[(n, c, *(p // by for p, by in zip(place, scale, strict=True)))]
    return y


def linear_upsampling(x: Any, scale: Any) -> Floats:
    """Along one axis after the other, by the two neighbours."""
    for axis, by in enumerate(scale, start=2):
        lines = []
        for place in range(x.shape[axis] * by):
            where = min(max((place + 0.5) / by - 0.5, 0.0), x.shape[axis] - 1.0)
            low = math.floor(where)
            high = min(low + 1, x.shape[axis] - 1)
            lines.append((low + 1 - where) * np.take(x, low, axis) + (where - low) * np.take(x, high, axis))
        x = np.stack(lines, axis)
    return x
