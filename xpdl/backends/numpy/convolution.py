"""Convolution as stacks of matrix products, one per row of the output.

Images are worked on in the order (H, C, W, N) of memory, images innermost; the results are views (N, C, H, W) of it.
NumPy's element-wise functions keep that order, so it goes from layer to layer and nothing is converted but the data at the
entrance. In this order the windows of a filter over one row of the output are rows of a matrix that lie one after the other:
only the shifts along W are copied, FW times instead of FH * FW times, and the matrices of neighbouring output rows overlap
in memory.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import threads, winograd
from xpdl.backends.numpy.windows import gathered, overlapping

Host = np.ndarray[Any, Any]
Pair = tuple[int, int]

_FLOATS = (np.float32, np.float64)

# Of copied windows in one task: what a core's cache takes.
_TASK_BYTES = 4 << 20
# Multiplications that are worth sharing between threads.
_SHARED_PRODUCTS = 1 << 22
# Images in one block, innermost in memory: long enough for quick products, short enough that a task has several rows.
_BLOCK = 128


@kernel("numpy", "convolution")
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
    y = np.empty((out[0], len(W), out[1], len(x)), x.dtype)
    src = _inner(x)
    tasks: list[threads.Task] = []
    for filters, channels in _groups(W, groups):
        bias = None if b is None else b[filters]
        weights = W[filters].transpose(0, 2, 3, 1)
        tasks += _correlation(src[:, channels], weights, y[:, filters], stride, pad, dilation, bias)
    threads.run(tasks)
    return _outer(y)


@kernel("numpy", "convolution_backward")
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
    strided_and_dilated = any(s > 1 and d > 1 for s, d in zip(stride, dilation, strict=True))
    if x.dtype.type not in _FLOATS or not dy.dtype == x.dtype == W.dtype or not x.size or strided_and_dilated:
        return DECLINE  # type: ignore[no-any-return]
    src, dyt = _inner(x), np.ascontiguousarray(_inner(dy))
    dx = np.empty(src.shape, x.dtype) if need_dx else None
    tasks: list[threads.Task] = []
    sums: list[list[tuple[Host, Host]]] = []
    for filters, channels in _groups(W, groups):
        sums.append([])
        tasks += _weight_gradients(dyt[:, filters], src[:, channels], W[filters].shape, stride, pad, dilation, sums[-1])
        if dx is not None:
            tasks += _input_gradient(dyt[:, filters], W[filters], dx[:, channels], stride, pad, dilation)
    threads.run(tasks)
    # in the order of the tasks, whoever did them
    totals = [[functools.reduce(np.add, parts) for parts in zip(*group, strict=True)] for group in sums]
    dW, db = (np.concatenate(parts) for parts in zip(*totals, strict=True))
    return (None if dx is None else _outer(dx)), np.ascontiguousarray(dW.transpose(0, 3, 1, 2)), db


def _groups(W: Host, groups: int) -> list[tuple[slice, slice]]:
    """The filters and the channels of each group."""
    filters, depth = len(W) // groups, W.shape[1]
    return [(slice(k * filters, (k + 1) * filters), slice(k * depth, (k + 1) * depth)) for k in range(groups)]


def _inner(x: Host) -> Host:
    """(N, C, H, W) as a view (H, C, W, N)."""
    return x.transpose(2, 1, 3, 0)


def _outer(x: Host) -> Host:
    """(H, C, W, N) as a view (N, C, H, W)."""
    return x.transpose(3, 1, 0, 2)


def _correlation(
    src: Host, weights: Host, out: Host, stride: Pair, pad: Pair, dilation: Pair, b: Host | None = None
) -> list[threads.Task]:
    """Tasks that fill `out`.

    ``out[i, f, j, n] = b[f] + sum over u, v, c of weights[f, u, v, c] src[i sh + u dh - ph, c, j sw + v dw - pw, n]``, where
    `src` is 0 outside its range; `pad` may be negative, and what `out` has beyond the last window too.
    """
    size, width = (weights.shape[1], weights.shape[2]), out.shape[2]
    tiled = _in_tiles(size, width, stride, dilation)
    matrix = winograd.transformed_filters(weights)[:, np.newaxis] if tiled else weights.reshape(len(weights), -1)

    def task(rows: slice, images: slice) -> None:
        target = out[rows, :, :, images]
        if tiled:
            first = rows.start * stride[0] - pad[0]
            V = winograd.transformed_windows(src, first, len(target), images, size[0], width, stride[0], pad[1])
            winograd.write_outputs(np.matmul(matrix, V), b, target)
            return
        windows = _windows(src, rows, images, size, width, stride, pad, dilation)
        whole = target.flags.c_contiguous
        product = target.reshape(len(target), out.shape[1], -1) if whole else None
        product = np.matmul(matrix, windows, out=product)
        if b is not None:
            product += b[:, np.newaxis]
        if not whole:
            target[...] = product.reshape(target.shape)

    return [functools.partial(task, *block) for block in _blocks(out, size, weights.shape[3], stride)]


def _weight_gradients(
    dyt: Host,
    src: Host,
    W_shape: tuple[int, ...],
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    partial: list[tuple[Host, Host]],
) -> list[threads.Task]:
    """Tasks that put into `partial`, one entry each, sums over their rows: dW (FN, FH, FW, C) and db (FN,)."""
    filters, depth, fh, fw = W_shape
    size, width = (fh, fw), dyt.shape[2]
    tiled = _in_tiles(size, width, stride, dilation)

    def task(rows: slice, images: slice, place: int) -> None:
        d = dyt[rows, :, :, images]
        if tiled:
            first = rows.start * stride[0] - pad[0]
            V = winograd.transformed_windows(src, first, len(d), images, fh, width, stride[0], pad[1])
            dW = winograd.filter_gradient(V, d).reshape(filters, 3, fh, depth).transpose(0, 2, 1, 3)
        else:
            windows = _windows(src, rows, images, size, width, stride, pad, dilation)
            lines = d.reshape(len(d), filters, -1)
            dW = np.matmul(lines, windows.transpose(0, 2, 1)).sum(axis=0).reshape(filters, fh, fw, depth)
        partial[place] = dW, d.reshape(len(d), filters, -1).sum(axis=2).sum(axis=0)

    blocks = _blocks(dyt, size, depth, stride)
    partial[:] = [(dyt, dyt)] * len(blocks)
    return [functools.partial(task, *block, place) for place, block in enumerate(blocks)]


def _input_gradient(dyt: Host, W: Host, dx: Host, stride: Pair, pad: Pair, dilation: Pair) -> list[threads.Task]:
    """Tasks that fill `dx` (H, C, W, N).

    With stride s, the inputs at places a, a + s, a + 2 s... see the taps a, a + s... of the filter alone: their gradient is
    a correlation, with stride 1, of `dy` with those taps, turned round.
    """
    turned = W.transpose(1, 2, 3, 0)
    tasks: list[threads.Task] = []
    for rows in range(stride[0]):
        for columns in range(stride[1]):
            taps = turned[:, rows :: stride[0], columns :: stride[1]][:, ::-1, ::-1]
            # the first window position whose tap falls on the image, and where
            first = [-((a - p) // s) for a, p, s in zip((rows, columns), pad, stride, strict=True)]
            start = [a + s * q - p for a, s, q, p in zip((rows, columns), stride, first, pad, strict=True)]
            part = dx[start[0] :: stride[0], :, start[1] :: stride[1]]
            reach = [(taps.shape[1] - 1) * dilation[0] - first[0], (taps.shape[2] - 1) * dilation[1] - first[1]]
            if not taps.size:
                part[...] = 0
            elif part.size:
                weights = np.ascontiguousarray(taps)
                tasks += _correlation(dyt, weights, part, (1, 1), (reach[0], reach[1]), dilation)
    return tasks


def _blocks(out: Host, size: Pair, depth: int, stride: Pair) -> list[tuple[slice, slice]]:
    """Rows and images of `out` (OH, F, OW, N) for each task; they depend on shapes alone."""
    rows, _, width, images = out.shape
    blocks = -(-images // _BLOCK)
    edges = [images * k // blocks for k in range(blocks + 1)]
    row_bytes = stride[0] * size[1] * depth * width * max(1, edges[1]) * out.itemsize
    # where it is worth a hand-over between threads, at least four tasks, so that few cores share the work evenly
    least = 4 if out.size * size[0] * size[1] * depth > _SHARED_PRODUCTS else 1
    step = max(1, min(_TASK_BYTES // row_bytes, -(-rows * blocks // least)))
    return [
        (slice(start, min(start + step, rows)), slice(*edge))
        for edge in itertools.pairwise(edges)
        for start in range(0, rows, step)
    ]


def _in_tiles(size: Pair, width: int, stride: Pair, dilation: Pair) -> bool:
    """Whether `winograd` serves the filter; rows may have any size and stride."""
    return size[1] == 3 and stride[1] == 1 and dilation == (1, 1) and width > 3


def _windows(
    src: Host, rows: slice, images: slice, size: Pair, width: int, stride: Pair, pad: Pair, dilation: Pair
) -> Host:
    """What a filter of `size` sees in `src` (H, C, W, N) at some rows of the output: (rows, FH * FW * C, OW * images)."""
    (fh, fw), count = size, rows.stop - rows.start
    needed = (count - 1) * stride[0] + (fh - 1) * dilation[0] + 1
    offsets = [tap * dilation[1] - pad[1] for tap in range(fw)]
    seen = gathered(src, rows.start * stride[0] - pad[0], needed, offsets, stride[1], width, images)
    lines = seen.reshape(needed, fw * src.shape[1], -1)
    if dilation[0] == 1:
        # the rows under a filter lie one after the other: matrices that share memory, not one of them copied
        return overlapping(lines, count, fh, stride[0])
    taps = [lines[u * dilation[0] : u * dilation[0] + (count - 1) * stride[0] + 1 : stride[0]] for u in range(fh)]
    return np.stack(taps, axis=1).reshape(count, -1, lines.shape[2])
