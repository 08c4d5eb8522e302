"""Number of windows over images."""

from __future__ import annotations

from xpdl.backends.arrays import Pair


def window_count(length: int, size: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Windows along one axis, ``(length + 2 pad - dilation (size - 1) - 1) // stride + 1``; less than 1 where none fits."""
    return (length + 2 * pad - dilation * (size - 1) - 1) // stride + 1


def output_size(shape: tuple[int, ...], size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1)) -> Pair:
    """(OH, OW) of windows over images (..., H, W)."""
    height, width = (window_count(shape[i - 2], size[i], stride[i], pad[i], dilation[i]) for i in (0, 1))
    return height, width
