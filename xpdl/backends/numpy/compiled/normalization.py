"""Batch normalisation of images (outer, C, inner), channel by channel in two passes over its values.

Arguments are those of NumPy's functions in `xpdl.backends.numpy.normalization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numpy.compiled.jit import compiled, inlined, sums

# Values that are summed as they are, and stay in the nearest cache for a second pass; their sums are added in float64.
_PIECE = 4096


@sums
def forward(
    x: Any, gamma: Any, beta: Any, eps: Any, rectified: Any, start: Any, stop: Any, y: Any, mean: Any, var: Any
) -> None:
    """Mean and variance of channels from `start` to `stop`, and their values normalised."""
    zero = x.dtype.type(0)
    for c in range(start, stop):
        # of the pieces so far: number, sum, mean, and sum of squared differences from the mean
        count, total, centre, squares = 0, 0.0, 0.0, 0.0
        for k in range(x.shape[0]):
            for left in range(0, x.shape[2], _PIECE):
                piece = x[k, c, left : left + _PIECE]
                n = len(piece)
                plain = zero
                for i in range(n):
                    plain += piece[i]
                total += plain
                # about the mean of the piece nothing cancels; what it was rounded by is in the sum of the differences
                about = x.dtype.type(plain / n)
                rest, square = zero, zero
                for i in range(n):
                    difference = piece[i] - about
                    rest += difference
                    square += difference * difference
                # two samples as one: T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm
                # for computing sample variances (1979)
                apart = about + rest / n - centre
                count += n
                centre += apart * n / count
                squares += square - float(rest) * rest / n + apart * apart * n * (count - n) / count
        # infinite values have a mean, as in a plain sum, but no differences from it
        mean[c] = centre if np.isfinite(total) else total / count
        var[c] = squares / count
        scale = x.dtype.type(gamma[c] / np.sqrt(var[c] + eps))
        # what the mean was rounded by counts where it is large and the variance small
        offset = x.dtype.type(beta[c] - (centre - mean[c]) * scale)
        for k in range(x.shape[0]):
            _scale(x[k, c], mean[c], scale, offset, rectified, y[k, c])


@compiled
def normalize(
    x: Any, mean: Any, scale: Any, beta: Any, rectified: Any, top: Any, bottom: Any, start: Any, stop: Any, y: Any
) -> None:
    """Values normalised with given statistics, of channels from `start` to `stop` in a part of the outer axis."""
    for k in range(top, bottom):
        for c in range(start, stop):
            _scale(x[k, c], mean[c], scale[c], beta[c], rectified, y[k, c])


@sums
def backward(
    dy: Any,
    x: Any,
    y: Any,
    gamma: Any,
    mean: Any,
    var: Any,
    eps: Any,
    rectified: Any,
    start: Any,
    stop: Any,
    dx: Any,
    dgamma: Any,
    dbeta: Any,
) -> None:
    """Gradients of channels from `start` to `stop`."""
    zero = x.dtype.type(0)
    count = x.shape[0] * x.shape[2]
    for c in range(start, stop):
        centre = mean[c]
        total, products = 0.0, 0.0
        for k in range(x.shape[0]):
            for left in range(0, x.shape[2], _PIECE):
                d, values = dy[k, c, left : left + _PIECE], x[k, c, left : left + _PIECE]
                part, product = zero, zero
                if rectified:
                    out = y[k, c, left : left + _PIECE]
                    for i in range(len(d)):
                        passed = d[i] if out[i] > 0 else zero
                        part += passed
                        product += passed * (values[i] - centre)
                else:
                    for i in range(len(d)):
                        part += d[i]
                        product += d[i] * (values[i] - centre)
                total += part
                products += product
        inv_std = 1.0 / np.sqrt(var[c] + eps)
        dbeta[c], dgamma[c] = total, products * inv_std
        shift, slope = x.dtype.type(total / count), x.dtype.type(products * inv_std * inv_std / count)
        scale = x.dtype.type(gamma[c] * inv_std)
        for k in range(x.shape[0]):
            _gradient(dy[k, c], x[k, c], y[k, c], rectified, centre, shift, slope, scale, dx[k, c])


@inlined
def _scale(x: Any, mean: Any, scale: Any, beta: Any, rectified: Any, y: Any) -> None:
    if rectified:
        for i in range(len(x)):
            value = (x[i] - mean) * scale + beta
            # NaN stays NaN
            y[i] = value if not value < 0 else x.dtype.type(0)
    else:
        for i in range(len(x)):
            y[i] = (x[i] - mean) * scale + beta


@inlined
def _gradient(dy: Any, x: Any, y: Any, rectified: Any, mean: Any, shift: Any, slope: Any, scale: Any, dx: Any) -> None:
    if rectified:
        for i in range(len(x)):
            passed = dy[i] if y[i] > 0 else x.dtype.type(0)
            dx[i] = (passed - shift - (x[i] - mean) * slope) * scale
    else:
        for i in range(len(x)):
            dx[i] = (dy[i] - shift - (x[i] - mean) * slope) * scale
