"""Convolution as stacks of matrix products, one per row of the output.

Images are worked on in the order (H, C, W, N) of memory, images innermost; the results are views (N, C, H, W) of it.
NumPy's element-wise functions keep that order, so it goes from layer to layer and nothing is converted but the data at the
entrance. In this order the windows of a filter over one row of the output are rows of a matrix that lie one after the other:
only the shifts along W are copied, FW times instead of FH * FW times, and the matrices of neighbouring output rows overlap
in memory. A task takes some rows of some columns, so that what it copies stays in the cache of a core. Filters three wide
with many channels take the shorter way of `winograd`.

Measured on two cores of a Xeon with AVX-512: a step of DeepConvNet, batch 100, takes 343 ms with the generic ops and 54 ms
with the kernels of this package.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import compiled, memory, threads, winograd
from xpdl.backends.numpy.half import in_float32
from xpdl.backends.numpy.products import product, sum_of_products, unpacked_columns
from xpdl.backends.numpy.windows import Block, cut, windows

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]
# A place for a sum, and the arrays to be summed.
Sum = tuple[Host, list[Host]]

_FLOATS = (np.float32, np.float64)

# Bytes of copied windows in one task.
_TASK_BYTES = 5 << 19
# Multiplications that are worth sharing between threads.
_SHARED_PRODUCTS = 1 << 22
# Columns, images counted, that are enough for quick products.
_TASK_COLUMNS = 400
# Images in one task.
_TASK_IMAGES = 256


@kernel("numpy", "convolution")
@in_float32
def convolution(
    x: Host,
    W: Host,
    b: Host | None = None,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Host:
    """As `xpdl.ops.convolution.convolution`; the result is a view of memory in the order (H, C, W, N)."""
    if x.dtype.type not in _FLOATS or not x.dtype == W.dtype == (x if b is None else b).dtype or not x.size:
        return DECLINE  # type: ignore[no-any-return]
    out = [(x.shape[i + 2] + 2 * pad[i] - dilation[i] * (W.shape[i + 2] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    if min(out) < 1 or x.shape[1] != W.shape[1] * groups:  # the generic op says what does not fit
        return DECLINE  # type: ignore[no-any-return]
    y = memory.empty((out[0], len(W), out[1], len(x)), x.dtype)
    src = _entering(x)
    tasks: list[threads.Task] = []
    for filters, channels in _groups(W, groups):
        bias = None if b is None else b[filters]
        weights = W[filters].transpose(0, 2, 3, 1)
        tasks += _correlation(src[:, channels], weights, y[:, filters], stride, pad, dilation, bias)
    threads.run(tasks)
    return _outer(y)


@kernel("numpy", "convolution_backward")
@in_float32
def convolution_backward(
    dy: Host,
    x: Host,
    W: Host,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    need_dx: bool = True,
) -> tuple[Host | None, Host, Host]:
    """As `xpdl.ops.convolution.convolution_backward`."""
    if x.dtype.type not in _FLOATS or not dy.dtype == x.dtype == W.dtype or not x.size:
        return DECLINE  # type: ignore[no-any-return]
    src, dyt = _entering(x), np.ascontiguousarray(_inner(dy))
    dx = memory.empty(src.shape, x.dtype) if need_dx else None
    dW = np.zeros((groups, len(W) // groups, *W.shape[1:]), x.dtype)
    rows = dyt.reshape(len(dyt), len(W), -1)
    db = np.empty(rows.shape[:2], x.dtype)
    # a product is the quickest sum
    tasks: list[threads.Task] = [functools.partial(np.matmul, rows, np.ones(rows.shape[2], x.dtype), out=db)]
    sums: list[Sum] = []
    for group, (filters, channels) in enumerate(_groups(W, groups)):
        d, images = dyt[:, filters], src[:, channels]
        if dx is None:
            tasks += _weight_gradient(d, images, dW[group], stride, pad, dilation, sums)
        else:
            tasks += _gradients(d, images, W[filters], dx[:, channels], dW[group], stride, pad, dilation, sums)
    threads.run(tasks)
    for total, parts in sums:
        # in the order of the tasks, whoever did them
        total[...] = functools.reduce(np.add, parts).reshape(total.shape)
    return (None if dx is None else _outer(dx)), dW.reshape(W.shape), db.sum(axis=0)


def _groups(W: Host, groups: int) -> list[tuple[slice, slice]]:
    """The filters and the channels of each group."""
    filters, depth = len(W) // groups, W.shape[1]
    return [(slice(k * filters, (k + 1) * filters), slice(k * depth, (k + 1) * depth)) for k in range(groups)]


def _inner(x: Host) -> Host:
    """(N, C, H, W) as a view (H, C, W, N)."""
    return x.transpose(2, 1, 3, 0)


def _entering(x: Host) -> Host:
    """As `_inner`; in that order of memory if compiled kernels read it, which do so more than once."""
    inner, by_rows = _inner(x), compiled.kernels("convolution")
    return np.ascontiguousarray(inner) if by_rows and by_rows.has_enough_images(inner) else inner


def _outer(x: Host) -> Host:
    """(H, C, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 1, 0, 2)


def _correlation(
    src: Host,
    weights: Host,
    out: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    b: Host | None = None,
    inputs: Host | None = None,
    parts: list[Host] | None = None,
) -> list[threads.Task]:
    """Tasks that fill `out`.

    ``out[i, f, j, n] = b[f] + sum over u, v, c of weights[f, u, v, c] src[i sh + u dh - ph, c, j sw + v dw - pw, n]``, where
    `src` is 0 outside its range; `pad` may be negative, and what `out` has beyond the last window too.

    With `inputs`, of the shape of `out`, the tasks also put into `parts`, one entry each, what is to be summed for
    ``sum over i, j, n of src[i sh + u dh - ph, c, j sw + v dw - pw, n] inputs[i, f, j, n]``, an array (FH * FW * C, F).
    """
    tiles = compiled.kernels("tiles")
    if tiles and tiles.serves(src, weights, out, inputs, stride, dilation):
        tasks: list[threads.Task] = tiles.correlation(src, weights, out, pad, b, inputs, parts)
        return tasks
    if winograd.serves(weights, out, stride, dilation):
        return winograd.correlation(src, weights, out, pad, b, inputs, parts)
    size = weights.shape[1], weights.shape[2]
    by_rows = compiled.kernels("convolution")
    if by_rows and by_rows.serves(src, out, inputs, dilation):
        plain: list[threads.Task] = by_rows.correlation(
            src, weights, size, out, stride, pad, dilation, b, inputs, parts
        )
        return plain
    matrix = _with_bias(weights, b)
    blocks = _blocks(out, weights.shape, stride, dilation)

    def task(place: int, block: Block) -> None:
        seen = windows(src, block, size, stride, pad, dilation, with_ones=b is not None)
        rows, columns, images = block
        target = out[rows, :, columns, images]
        if _gapless(target):
            product(matrix, seen, _lines(target))
        else:
            target[...] = np.matmul(matrix, seen).reshape(target.shape)
        if inputs is not None and parts is not None:
            parts[place] = sum_of_products(seen, inputs[rows, :, columns, images])

    if parts is not None:
        parts += [matrix] * len(blocks)
    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _with_bias(weights: Host, b: Host | None) -> Host:
    """Filters as rows of a matrix; with `b`, for windows that have a line of ones under each row of the filter."""
    filters, fh, fw, depth = weights.shape
    lines = weights.reshape(filters, fh, fw * depth)
    if b is not None:
        ones = np.zeros((filters, fh, 1), b.dtype)
        ones[:, 0, 0] = b
        lines = np.concatenate([lines, ones], axis=2)
    return lines.reshape(filters, -1)


def _gapless(part: Host) -> bool:
    """Whether the columns of a part of an array (H, C, W, N) follow each other in memory."""
    return part.strides[3] == part.itemsize and part.strides[2] == part.shape[3] * part.itemsize


def _lines(part: Host) -> Host:
    """(H, C, W, N) as a view (H, C, W * N)."""
    shape = (*part.shape[:2], part.shape[2] * part.shape[3])
    return as_strided(part, shape, (*part.strides[:2], part.itemsize))


def _gradients(
    dyt: Host,
    src: Host,
    W: Host,
    dx: Host,
    dW: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
) -> list[threads.Task]:
    """Tasks that fill `dx` (H, C, W, N), and what is to be summed for `dW`.

    With stride s and dilation d, the inputs at places a, a + s, a + 2 s... see every ``s / gcd(s, d)``-th tap alone: their
    gradient is a correlation, with stride 1, of `dy` with those taps, turned round. The gradients of those taps are products
    of those inputs with the same windows of `dy`.
    """
    tasks: list[threads.Task] = []
    for phase in itertools.product(range(stride[0]), range(stride[1])):
        places = slice(phase[0], None, stride[0]), slice(None), slice(phase[1], None, stride[1])
        axes = zip(phase, W.shape[2:], stride, pad, dilation, strict=True)
        (rows, reach_h, step_h), (columns, reach_w, step_w) = (_taps_seen(*axis) for axis in axes)
        taps, into = W[:, :, rows, columns], dx[places]
        if not into.size:
            continue
        if not taps.size:
            into[...] = 0
            continue
        weights = np.ascontiguousarray(taps[:, :, ::-1, ::-1].transpose(1, 2, 3, 0))
        parts: list[Host] = []
        reach, step = (reach_h, reach_w), (step_h, step_w)
        tasks += _correlation(dyt, weights, into, (1, 1), reach, step, inputs=src[places], parts=parts)
        sums.append((dW[:, :, rows, columns][:, :, ::-1, ::-1].transpose(2, 3, 0, 1), parts))
    return tasks


def _taps_seen(first: int, size: int, stride: int, pad: int, dilation: int) -> tuple[slice, int, int]:
    """Along one axis, the taps that the inputs `first`, `first` + `stride`... see; pad and dilation of their gradient."""
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    tap = next((u for u in range(min(step, size)) if (first + pad - u * dilation) % stride == 0), size)
    last = len(range(tap, size, step)) - 1
    return slice(tap, None, step), last * spread - (first + pad - tap * dilation) // stride, spread


def _weight_gradient(
    dyt: Host,
    src: Host,
    dW: Host,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    sums: list[Sum],
) -> list[threads.Task]:
    """Tasks for what is to be summed for `dW` (FN, C, FH, FW), where nobody asks for `dx`."""
    filters, depth, fh, fw = dW.shape
    parts: list[Host] = []
    sums.append((dW.transpose(2, 3, 1, 0), parts))
    by_rows = compiled.kernels("convolution")
    if by_rows and by_rows.serves(src, dyt, None, dilation):
        tasks: list[threads.Task] = by_rows.correlation(
            src, None, (fh, fw), dyt, stride, pad, dilation, inputs=dyt, parts=parts
        )
        return tasks
    blocks = _blocks(dyt, (filters, fh, fw, depth), stride, dilation)
    parts += [dW] * len(blocks)

    def task(place: int, block: Block) -> None:
        rows, columns, images = block
        seen = windows(src, block, (fh, fw), stride, pad, dilation)
        parts[place] = sum_of_products(seen, dyt[rows, :, columns, images])

    return [functools.partial(task, place, block) for place, block in enumerate(blocks)]


def _blocks(out: Host, weights: tuple[int, ...], stride: Pair, dilation: Pair) -> list[Block]:
    """The parts of `out` (OH, F, OW, N) that make a task, in the order of its rows; they depend on shapes alone."""
    rows, _, width, images = out.shape
    filters, fh, fw, depth = weights
    if out.size * fh * fw * depth <= _SHARED_PRODUCTS:
        return [(slice(0, rows), slice(0, width), slice(0, images))]
    most_images = min(images, _TASK_IMAGES)
    enough = max(unpacked_columns(filters, fh * fw * depth), _TASK_COLUMNS)
    most_columns = max(1, min(width, enough // most_images))
    row_bytes = fw * depth * most_columns * most_images * out.itemsize
    shared = (fh - 1) * dilation[0] + 1 - stride[0]
    # two at least, so that few threads share the work evenly
    most_rows = max(1, min((_TASK_BYTES // row_bytes - shared) // stride[0], -(-rows // 2)))
    return list(itertools.product(cut(rows, most_rows), cut(width, most_columns), cut(images, most_images)))
