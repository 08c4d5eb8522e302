"""Order of the axes of images in memory."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import buffer_pool
from xpdl.backends.cpu.workspace import scratch


def in_order_of(x: NDArray, size: Pair, name: str | None = None) -> NDArray:
    """(N, C, *size) with the axes in the order that `x` has them in memory; of the workspace `name`, or fresh."""
    shape, order = (*x.shape[:2], *size), order_of(x.shape, x.strides)
    sizes = tuple(shape[axis] for axis in order.axes)
    in_memory = buffer_pool.empty(sizes, x.dtype) if name is None else scratch(name, sizes, x.dtype)
    return in_memory.transpose(order.back)


class Order(NamedTuple):
    """Order of the axes of images in memory, and the number of values outside of, between and inside H and W."""

    axes: tuple[int, ...]
    back: tuple[int, ...]
    outer: int
    middle: int
    inner: int


@functools.lru_cache(maxsize=1024)
def order_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> Order:
    """The order of the axes of images (N, C, H, W)."""
    axes = tuple(sorted(range(4), key=lambda axis: -abs(strides[axis])))
    h, w = axes.index(2), axes.index(3)
    ranges = (0, min(h, w)), (min(h, w) + 1, max(h, w)), (max(h, w) + 1, 4)
    counts = (math.prod(shape[axis] for axis in axes[first:end]) for first, end in ranges)
    return Order(axes, tuple(sorted(range(4), key=axes.__getitem__)), *counts)
