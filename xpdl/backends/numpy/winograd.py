"""Filters of three columns with four products for two outputs instead of six: F(2, 3) along W (arXiv:1509.09308).

A tile is two neighbouring outputs and the four inputs ``d`` they see. The inputs give
``V = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)`` and the taps ``U = (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)``; of their
products ``M`` the outputs are ``M0 + M1 + M2`` and ``M1 - M2 - M3``. Rounding errors stay within a small factor of those of
direct products; an infinity may come out as NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numpy.windows import gathered, overlapping

Host = np.ndarray[Any, Any]


def transformed_filters(weights: Host) -> Host:
    """U (4, F, FH * C) of filters (F, FH, 3, C)."""
    g0, g1, g2 = (weights[:, :, tap] for tap in range(3))
    middle = 0.5 * (g0 + g2)
    U = np.stack([g0, middle + 0.5 * g1, middle - 0.5 * g1, g2])
    return U.reshape(4, len(weights), -1)


def transformed_windows(
    src: Host, first_row: int, count: int, images: slice, height: int, width: int, stride: int, pad: int
) -> Host:
    """V (4, count, FH * C, tiles * images) of what filters of `height` rows see at `count` rows of the output."""
    tiles = -(-width // 2)
    # even and odd columns, each with one tile more for the inputs that tiles share
    needed = (count - 1) * stride + height
    columns = gathered(src, first_row, needed, [-pad, 1 - pad], 2, tiles + 1, images)
    even, odd = columns[:, 0], columns[:, 1]
    d0, d1, d2, d3 = even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:]
    V = np.empty((4, *d0.shape), src.dtype)
    np.subtract(d0, d2, out=V[0])
    np.add(d1, d2, out=V[1])
    np.subtract(d2, d1, out=V[2])
    np.subtract(d1, d3, out=V[3])
    return overlapping(V.reshape(4, needed, src.shape[1], -1), count, height, stride)


def write_outputs(M: Host, b: Host | None, out: Host) -> None:
    """Fill `out` (rows, F, width, images) from products M (4, rows, F, tiles * images), which is used up."""
    rows, filters, width, images = out.shape
    if b is not None:
        M[1] += b[:, np.newaxis]  # which goes into both outputs
    m0, m1, m2, m3 = M.reshape(4, rows, filters, -1, images)
    odd = width // 2
    np.add(m0, m1, out=m0)
    np.add(m0, m2, out=out[:, :, 0::2])
    np.subtract(m1, m2, out=m1)
    np.subtract(m1[:, :, :odd], m3[:, :, :odd], out=out[:, :, 1::2])


def filter_gradient(V: Host, d: Host) -> Host:
    """dW (F, 3, FH * C) summed over rows, of windows V and output gradients `d` (rows, F, width, images)."""
    rows, filters, width, images = d.shape
    tiles, odd = -(-width // 2), width // 2
    D = np.empty((4, rows, filters, tiles, images), d.dtype)
    D[0] = d[:, :, 0::2]
    D[3, :, :, :odd] = d[:, :, 1::2]
    D[3, :, :, odd:] = 0
    np.add(D[0], D[3], out=D[1])
    np.subtract(D[0], D[3], out=D[2])
    # the fourth has the other sign
    products = np.matmul(D.reshape(4, rows, filters, -1), V.transpose(0, 1, 3, 2)).sum(axis=1)
    u0, u1, u2, u3 = products
    middle = 0.5 * (u1 + u2)
    return np.stack([u0 + middle, 0.5 * (u1 - u2), middle - u3], axis=1)
