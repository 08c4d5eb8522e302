"""Number of windows over images."""

from __future__ import annotations

from xpdl.backends.arrays import Array, Pads, Pair


def window_count(length: int, size: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Windows along one axis, ``(length + 2 pad - dilation (size - 1) - 1) // stride + 1``; less than 1 where none fits."""
    return (length + 2 * pad - dilation * (size - 1) - 1) // stride + 1


def output_size(shape: tuple[int, ...], size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1)) -> Pair:
    """(OH, OW) of windows over images (..., H, W)."""
    return (
        window_count(shape[-2], size[0], stride[0], pad[0], dilation[0]),
        window_count(shape[-1], size[1], stride[1], pad[1], dilation[1]),
    )


def is_plain(x: Array, pad: Pads = ()) -> bool:
    """Return whether `x` is a batch of images (N, C, H, W), and `pad` one int for each axis: kernels take no others.

    The generic ops reduce signals, volumes and one-sided borders to them.
    """
    return x.ndim == 4 and all([type(border) is int for border in pad])
