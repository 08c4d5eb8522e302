"""Loops of pooling over contiguous images (outer, H, middle, W * inner).

That is (1, H, C, W * N) with images innermost, (N * C, H, 1, W) in the order of their axes. What lies innermost is worked on
together. A `part` is the first of the outer and its end, and so of the middle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numba.row_loops import add, clear, copy


@compiled
def max_pooling(x: Any, y: Any, size: Any, stride: Any, pad: Any, relu: bool, inner: int, part: Any) -> None:
    """Fill a part of `y` (outer, OH, middle, OW * inner), with zeros for less if `relu`."""
    largest = np.empty(x.shape[3], x.dtype)
    for a in range(part[0], part[1]):
        for i in range(y.shape[1]):
            top, bottom = _seen(i, size[0], stride[0], pad[0], x.shape[1])
            for b in range(part[2], part[3]):
                if top < bottom:
                    _larger_of_two(x[a, top, b], x[a, min(top + 1, bottom - 1), b], largest)
                    for row in range(top + 2, bottom):
                        _larger(x[a, row, b], largest)
                else:
                    _fill(largest, -np.inf)
                _of_columns(largest, y[a, i, b], size[1], stride[1], pad[1], inner)
                if relu:
                    _relu(y[a, i, b])


@inline
def _of_columns(line: Any, y: Any, size: int, stride: int, pad: int, inner: int) -> None:
    """The largest columns of each window of a line, element by element."""
    for j in range(len(y) // inner):
        left, right = _seen(j, size, stride, pad, len(line) // inner)
        if left >= right:
            _fill(y[j * inner : (j + 1) * inner], -np.inf)
        elif inner == 1:
            largest = line[left]
            for column in range(left + 1, right):
                largest = _largest(largest, line[column])
            y[j] = largest
        else:
            second = min(left + 1, right - 1)
            into = y[j * inner : (j + 1) * inner]
            _larger_of_two(line[left * inner : (left + 1) * inner], line[second * inner : (second + 1) * inner], into)
            for column in range(left + 2, right):
                _larger(line[column * inner : (column + 1) * inner], into)


@inline
def _relu(y: Any) -> None:
    for k in range(len(y)):
        # NaN is not less
        y[k] = 0 if y[k] <= 0 else y[k]


@compiled
def max_pooling_backward(
    dy: Any, x: Any, y: Any, dx: Any, size: Any, stride: Any, pad: Any, relu: bool, inner: int, part: Any
) -> None:
    """Fill a part of `dx` with each window's `dy` at the first of its largest values, and 0 elsewhere.

    If `relu`, a window has `dy` where `y` is positive.
    """
    # of a window's gradients, what no winner has been given yet
    left = np.empty(inner, x.dtype)
    for a in range(part[0], part[1]):
        reached = 0
        for i in range(dy.shape[1]):
            top, bottom = _seen(i, size[0], stride[0], pad[0], x.shape[1])
            for b in range(part[2], part[3]):
                for row in range(reached, bottom):
                    clear(dx[a, row, b])
                for j in range(dy.shape[3] // inner):
                    place = slice(j * inner, (j + 1) * inner)
                    largest = y[a, i, b, place]
                    if relu:
                        _copy_where_positive(dy[a, i, b, place], largest, left)
                    else:
                        copy(dy[a, i, b, place], left)
                    first, end = _seen(j, size[1], stride[1], pad[1], x.shape[3] // inner)
                    for row in range(top, bottom):
                        for column in range(first, end):
                            tap = slice(column * inner, (column + 1) * inner)
                            _to_winner(left, x[a, row, b, tap], largest, dx[a, row, b, tap])
            reached = max(reached, bottom)
        for row in range(reached, x.shape[1]):
            for b in range(part[2], part[3]):
                clear(dx[a, row, b])


@inline
def _to_winner(left: Any, x: Any, y: Any, dx: Any) -> None:
    for k in range(len(left)):
        won = x[k] == y[k]
        dx[k] += left[k] if won else 0
        left[k] = 0 if won else left[k]


@compiled
def average_pooling(x: Any, y: Any, size: Any, stride: Any, pad: Any, inner: int, part: Any) -> None:
    """Fill a part of `y` (outer, OH, middle, OW * inner)."""
    total = np.empty(x.shape[3], x.dtype)
    count = x.dtype.type(size[0] * size[1])
    for a in range(part[0], part[1]):
        for i in range(y.shape[1]):
            top, bottom = _seen(i, size[0], stride[0], pad[0], x.shape[1])
            for b in range(part[2], part[3]):
                # of rows in one array they would not be known to have no gaps
                if top < bottom:
                    copy(x[a, top, b], total)
                else:
                    clear(total)
                for row in range(top + 1, bottom):
                    add(x[a, row, b], total)
                for j in range(y.shape[3] // inner):
                    into = y[a, i, b, j * inner : (j + 1) * inner]
                    first, end = _seen(j, size[1], stride[1], pad[1], x.shape[3] // inner)
                    if first < end:
                        copy(total[first * inner : (first + 1) * inner], into)
                    else:
                        clear(into)
                    for column in range(first + 1, end):
                        add(total[column * inner : (column + 1) * inner], into)
                    _divide(into, count, into)


@compiled
def average_pooling_backward(dy: Any, dx: Any, size: Any, stride: Any, pad: Any, inner: int, part: Any) -> None:
    """Fill a part of `dx` with equal shares of the `dy` of each window."""
    share = np.empty(inner, dx.dtype)
    count = dx.dtype.type(size[0] * size[1])
    for a in range(part[0], part[1]):
        for row in range(dx.shape[1]):
            for b in range(part[2], part[3]):
                clear(dx[a, row, b])
        for i in range(dy.shape[1]):
            top, bottom = _seen(i, size[0], stride[0], pad[0], dx.shape[1])
            for b in range(part[2], part[3]):
                for j in range(dy.shape[3] // inner):
                    _divide(dy[a, i, b, j * inner : (j + 1) * inner], count, share)
                    first, end = _seen(j, size[1], stride[1], pad[1], dx.shape[3] // inner)
                    for row in range(top, bottom):
                        for column in range(first, end):
                            add(share, dx[a, row, b, column * inner : (column + 1) * inner])


@inline
def _divide(x: Any, by: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = x[k] / by


@inline
def _seen(window: int, size: int, stride: int, pad: int, length: int) -> Any:
    """The first of those that a window sees along an axis, and the end of them."""
    start = window * stride - pad
    return max(0, start), min(length, start + size)


@inline
def _larger_of_two(a: Any, b: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = _largest(a[k], b[k])


@inline
def _larger(x: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = _largest(out[k], x[k])


@inline
def _largest(a: Any, b: Any) -> Any:
    """The larger number, and NaN if one of them is."""
    return a if a >= b or a != a else b


@inline
def _copy_where_positive(x: Any, y: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = x[k] if y[k] > 0 else 0


@inline
def _fill(out: Any, value: float) -> None:
    for k in range(len(out)):
        out[k] = value
