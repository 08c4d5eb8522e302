"""Normalization of rows in one launch, its gradient in another, and those of the parameters by partial sums in two more."""

from __future__ import annotations

import math
from typing import Any

from xpdl.backends.cupy.launch import BLOCK, computing_dtype, contiguous, dtype_name, empty, kernel, launch, supports
from xpdl.backends.cupy.normalization import in_dtype, parameters_fit
from xpdl.backends.cupy.tiles import column_shares, divisor, row_shares
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# Rows that a thread adds up before another block is worth it, and the most blocks of a column.
_ROWS, _MOST_PARTS = 8, 64


@kernel("layer_normalization")
def layer_normalization(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.row_normalization.layer_normalization`."""
    if not _serves((x,), gamma, beta, axis=-1):
        return DECLINE
    rows = _last(x)
    y, mean, std = _forward(x, gamma, beta, eps, *rows)
    return y, mean.reshape(*x.shape[:-1], 1), std.reshape(*x.shape[:-1], 1)


@kernel("layer_normalization_backward")
def layer_normalization_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, std: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None, Array | None]:
    """As `xpdl.ops.row_normalization.layer_normalization_backward`."""
    if not _serves((dy, x), gamma, axis=-1) or not _are_statistics(x, x.size // x.shape[-1], mean, std):
        return DECLINE
    dx = _backward(dy, x, gamma, mean, std, *_last(x))
    return (dx, *_of_columns(dy, x, gamma, mean, std)) if need_dgamma else (dx, None, None)


@kernel("rms_normalization")
def rms_normalization(x: Array, gamma: Array, eps: float) -> tuple[Array, Array]:
    """As `xpdl.ops.row_normalization.rms_normalization`."""
    if not _serves((x,), gamma, axis=-1):
        return DECLINE
    y, _, rms = _forward(x, gamma, None, eps, *_last(x), centred=False)
    return y, rms.reshape(*x.shape[:-1], 1)


@kernel("rms_normalization_backward")
def rms_normalization_backward(
    dy: Array, x: Array, gamma: Array, rms: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None]:
    """As `xpdl.ops.row_normalization.rms_normalization_backward`."""
    if not _serves((dy, x), gamma, axis=-1) or not _are_statistics(x, x.size // x.shape[-1], rms):
        return DECLINE
    dx = _backward(dy, x, gamma, None, rms, *_last(x))
    return dx, _of_columns(dy, x, gamma, None, rms)[0] if need_dgamma else None


@kernel("group_normalization")
def group_normalization(x: Array, gamma: Array, beta: Array, groups: int, eps: float) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.row_normalization.group_normalization`."""
    if not _serves((x,), gamma, beta, axis=1):
        return DECLINE
    y, mean, std = _forward(x, gamma, beta, eps, *_groups(x, groups))
    return y, mean.reshape(x.shape[0], groups, 1), std.reshape(x.shape[0], groups, 1)


@kernel("group_normalization_backward")
def group_normalization_backward(
    dy: Array, x: Array, gamma: Array, groups: int, mean: Array, std: Array, *, need_dgamma: bool = True
) -> tuple[Array, Array | None, Array | None]:
    """As `xpdl.ops.row_normalization.group_normalization_backward`."""
    if not _serves((dy, x), gamma, axis=1) or not _are_statistics(x, x.shape[0] * groups, mean, std):
        return DECLINE
    dx = _backward(dy, x, gamma, mean, std, *_groups(x, groups))
    if not need_dgamma:
        return dx, None, None
    images, channels = x.shape[:2]
    planes, positions = images * channels, x.size // (images * channels)
    sums = empty((images, 2, channels), computing_dtype(x.dtype))
    grid, block = row_shares(planes, positions)
    args = (contiguous(dy), contiguous(x), contiguous(mean), contiguous(std), sums)
    _launch("plane_products", x, grid, block, *args, planes, positions, channels, channels // groups)
    return dx, *_totals(sums, gamma)


def _forward(
    x: Array,
    gamma: Array,
    beta: Array | None,
    eps: float,
    rows: int,
    columns: int,
    *parameters: int,
    centred: bool = True,
) -> tuple[Array, Any, Array]:
    """The output, and mean and standard deviation of the rows; without the mean where that is taken as 0."""
    computed, grid_and_block = computing_dtype(x.dtype), row_shares(rows, columns)
    y, std = empty(x.shape, x.dtype), empty((rows,), computed)
    mean: Any = empty((rows,), computed) if centred else 0
    given = (contiguous(x), _wide(x, gamma), 0 if beta is None else _wide(x, beta), float(eps))
    _launch("row_normalization", x, *grid_and_block, *given, y, mean, std, rows, columns, *parameters)
    return y, mean, std


def _backward(
    dy: Array, x: Array, gamma: Array, mean: Array | None, std: Array, rows: int, columns: int, *parameters: int
) -> Array:
    dx = empty(x.shape, x.dtype)
    given = (contiguous(dy), contiguous(x), _wide(x, gamma), 0 if mean is None else contiguous(mean), contiguous(std))
    _launch("row_normalization_backward", x, *row_shares(rows, columns), *given, dx, rows, columns, *parameters)
    return dx


def _of_columns(dy: Array, x: Array, gamma: Array, mean: Array | None, std: Array) -> tuple[Array, Array]:
    """The gradients of the scale and the shift of each column."""
    dy, x, columns = contiguous(dy), contiguous(x), x.shape[-1]
    rows, (blocks, block) = x.size // columns, column_shares(columns, dy, x)
    parts = max(1, min(_MOST_PARTS, rows // (block[1] * _ROWS)))
    sums = empty((parts, 2, columns), computing_dtype(x.dtype))
    args = (dy, x, 0 if mean is None else contiguous(mean), contiguous(std), sums)
    _launch("row_products", x, (blocks, parts), block, *args, rows, columns)
    return _totals(sums, gamma)


def _totals(sums: Array, gamma: Array) -> tuple[Array, Array]:
    """The partial sums (parts, 2, count) added up, in the dtype of gamma."""
    parts, _, count = sums.shape
    if parts == 1 and sums.dtype == gamma.dtype:
        return sums[0, 0], sums[0, 1]
    totals = empty((2, count), gamma.dtype)
    grid, args = (-(-totals.size // BLOCK),), (sums, parts, totals, totals.size)
    launch("normalization", "channel_totals", dtype_name(gamma.dtype), grid, (BLOCK,), args, sums.size)
    return totals[0], totals[1]


def _launch(name: str, x: Array, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    launch("row_normalization", name, dtype_name(x.dtype), grid, block, args, x.size)


def _last(x: Array) -> tuple[int, int, int, int, int]:
    """Rows and columns, and how parameters lie: one for each column."""
    return x.size // x.shape[-1], x.shape[-1], 1, 1, divisor(1)


def _groups(x: Array, groups: int) -> tuple[int, int, int, int, int]:
    """Rows and columns, and how parameters lie: one for all positions of a channel."""
    positions = math.prod(x.shape[2:])
    return x.shape[0] * groups, x.shape[1] // groups * positions, groups, positions, divisor(positions)


def _serves(values: tuple[Array, ...], *parameters: Array, axis: int) -> bool:
    """Return whether there is one parameter for each entry along an axis."""
    x = values[0]
    if not supports(*values) or x.ndim <= axis or any(a.shape != x.shape for a in values[1:]):
        return False
    return parameters_fit(x, *parameters) and all(p.shape == (x.shape[axis],) for p in parameters)


def _are_statistics(x: Array, rows: int, *statistics: Array) -> bool:
    """Return whether they are those that the forward pass returns."""
    return parameters_fit(x, *statistics) and all(
        a.size == rows and dtype_name(a.dtype) == computing_dtype(x.dtype) for a in statistics
    )


def _wide(x: Array, p: Array) -> Array:
    """`p` in the dtype that is computed with."""
    return contiguous(in_dtype(p, computing_dtype(x.dtype)))
