"""Sizes of the outputs of windows."""

from __future__ import annotations

from xpdl.backends.arrays import Pair


def output_size(shape: tuple[int, ...], size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1)) -> Pair:
    """(OH, OW) of windows of `size` over images (..., H, W); less than 1 where none fits.

    ``O = (I + 2 pad - dilation (size - 1) - 1) // stride + 1``.
    """
    height, width = ((shape[i - 2] + 2 * pad[i] - dilation[i] * (size[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return height, width
