"""Volumes as images: a convolution sees frames as more channels, and pooling goes across frames and then along them."""

from __future__ import annotations

import math
from typing import Any

from xpdl.backends.arrays import Pads
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.padding import Sizes, pad_images
from xpdl.ops.windows import overlap_add, shifted


def frames(x: Array, taps: int, stride: int, pad: Any, dilation: int, count: int) -> Array:
    """Volumes (N, C, D, H, W) as images (N * `count`, C * `taps`, H, W): what windows along D see are more channels."""
    xp = array_namespace(x)
    c, _, h, w = x.shape[1:]
    seen = shifted(pad_images(x, (pad, 0, 0)), (taps, 1, 1), (stride, 1, 1), (dilation, 1, 1), (count, h, w))
    stacked = xp.permute_dims(xp.stack(seen, axis=2), (0, 3, 1, 2, 4, 5))
    return xp.reshape(stacked, (-1, c * taps, h, w))


def frames_backward(dy: Array, depth: int, taps: int, stride: int, pad: Any, dilation: int, count: int) -> Array:
    """The adjoint of `frames` for `dy`, giving (N, C, `depth`, H, W)."""
    xp = array_namespace(dy)
    channels, h, w = dy.shape[1:]
    dy = xp.reshape(dy, (-1, count, channels // taps, taps, h, w))
    parts = [xp.permute_dims(dy[:, :, :, tap, :, :], (0, 2, 1, 3, 4)) for tap in range(taps)]
    return overlap_add(parts, (depth, h, w), (taps, 1, 1), (stride, 1, 1), (pad, 0, 0), (dilation, 1, 1))


def volumes(y: Array, count: int) -> Array:
    """Images (N * `count`, C, H, W) as volumes (N, C, `count`, H, W)."""
    xp = array_namespace(y)
    return xp.permute_dims(xp.reshape(y, (-1, count, *y.shape[1:])), (0, 2, 1, 3, 4))


def images_of(y: Array) -> Array:
    """The inverse of `volumes`."""
    xp = array_namespace(y)
    y = xp.permute_dims(y, (0, 2, 1, 3, 4))
    return xp.reshape(y, (-1, *y.shape[2:]))


def stages(size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the windows across the images of a volume, and of those along its depth."""
    options = {"size": size, "stride": stride, "pad": pad, "dilation": dilation}
    nothing = {"size": 1, "stride": 1, "pad": 0, "dilation": 1}
    across = {name: value[1:] for name, value in options.items()}
    return across, {name: (value[0], nothing[name]) for name, value in options.items()}


def merged_frames(x: Array) -> Array:
    """Volumes (N, C, D, H, W) as images (N, C * D, H, W)."""
    c, d, h, w = x.shape[1:]
    return array_namespace(x).reshape(x, (-1, c * d, h, w))


def pooled_columns(frames: Array, x: Array) -> Array:
    """Pooled images (N, C * D, OH, OW) of a volume `x` as images (N, C, D, OH * OW)."""
    return array_namespace(frames).reshape(frames, (-1, x.shape[1], x.shape[2], math.prod(frames.shape[2:])))


def columns_of(y: Array) -> Array:
    """(N, C, OD, OH, OW) as (N, C, OD, OH * OW)."""
    return array_namespace(y).reshape(y, (-1, y.shape[1], y.shape[2], math.prod(y.shape[3:])))


def pooled_volumes(columns: Array, frames: Array) -> Array:
    """(N, C, OD, OH * OW) as (N, C, OD, OH, OW)."""
    return array_namespace(columns).reshape(columns, (-1, *columns.shape[1:3], *frames.shape[2:]))
