"""Shares of threads in sums along channels: see ``cuda/normalization.cu`` and ``cuda/normalization_rows.cu``."""

from __future__ import annotations

import functools
import math
from typing import Any

from xpdl.backends.cupy.launch import BLOCK, computing_dtype, dtype_name, empty, launch, struct
from xpdl.backends.cupy.layout import empty_images, in_layout, is_channels_last
from xpdl.backends.namespaces import Array

_BYTES = 16  # that a thread reads at once, as in cuda/packs.cuh
# Values of a channel that a thread adds up before another block is worth it, and the fewest packs.
_VALUES, _PACKS = 16, 4
# The most blocks of a channel. Of rows, a block has more channels, and each block of the second pass reads the sums of all.
_MOST_PARTS, _MOST_ROW_PARTS = 64, 128
# Threads of a block for neighbouring channels: 64 bytes in packs, two sectors of memory; a warp's width one by one.
_LANES, _SINGLE_LANES = 4, 32


class ChannelPlan:
    """Grid, block and partial sums of the kernels for arrays of one shape.

    Attributes
    ----------
    shape : tuple of ints
    channels_last : bool
        Whether arrays lie so, and results are to.
    parts : int
        How many blocks share a channel.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, channels_last: bool, aligned: bool) -> None:
        self.shape, self.channels_last = shape, channels_last
        self._size, channels = math.prod(shape), shape[1]
        self._dtype, self._computed = dtype_name(dtype), computing_dtype(dtype)
        values = self._size // channels
        self._of_rows = channels_last or values == shape[0]
        if self._of_rows:
            width = _BYTES // dtype.itemsize
            wide = aligned and channels % width == 0
            packs = channels // width if wide else channels
            # the least power of two that does for few channels
            lanes = min(_LANES if wide else _SINGLE_LANES, 1 << (packs - 1).bit_length())
            rows, most, least = BLOCK // lanes, _MOST_ROW_PARTS, _PACKS if wide else _VALUES
            self._struct: Any = struct("R C wide", values, channels, wide)
        else:
            packs, lanes, rows, most, least = channels, 1, BLOCK, _MOST_PARTS, _VALUES
            self._struct = struct("N C S", shape[0], channels, values // shape[0])
        self.parts = max(1, min(most, values // (rows * least)))
        self._grid, self._block = (-(-packs // lanes), self.parts), (lanes, rows)

    def partial(self) -> Array:
        """Return an array for one value of each block and channel."""
        return empty((self.parts, self.shape[1]), self._computed)

    def result(self, dtype: Any) -> Array:
        """Return an array of the shape and order of the operands."""
        return empty_images(self.shape, dtype, self.channels_last)

    def launch(self, name: str, *args: Any) -> None:
        file, name = ("normalization_rows", f"{name}_of_rows") if self._of_rows else ("normalization", name)
        launch(file, name, self._dtype, self._grid, self._block, (*args, self._struct), self._size)


_plan = functools.lru_cache(maxsize=1024)(ChannelPlan)


def planned(first: Array, *others: Array | None) -> tuple[Any, ...]:
    """Return the plan for arrays of one shape (N, C, ...), and each of them in its order, 0 in place of None."""
    channels_last = is_channels_last(first, *others)
    operands = [None if a is None else in_layout(a, channels_last) for a in (first, *others)]
    aligned = all(a is None or a.data.ptr % _BYTES == 0 for a in operands)
    plan = _plan(first.shape, first.dtype, channels_last, aligned)
    return plan, *(0 if a is None else a for a in operands)
