"""Signals and one-sided borders in terms of images with as much border on both sides, which kernels take."""

from __future__ import annotations

import math
from typing import Any

from xpdl.backends.arrays import Pads
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.padding import Sizes, cropped, in_the_image, is_one_sided, pad_images, sides


class Images:
    """Signals (N, C, L) as images of one row (N, C, 1, L), and a one-sided border as part of the images.

    Attributes
    ----------
    x : array (N, C, H, W)
    stride, pad, dilation : pairs of ints
        As they are for `x`. A border of -inf that is wider before the images stays one-sided.
    """

    def __init__(self, x: Array, stride: Sizes, pad: Pads, dilation: Sizes, border: float) -> None:
        self._is_row = x.ndim == 3
        self.x = x = self.rows(x)
        self.stride, self.dilation, pad = self.window(stride), self.window(dilation), self.window(pad, 0)
        self._extra, self.pad = ((0, 0), pad) if _stays(pad, border) else in_the_image(pad)
        self.x = pad_images(x, self._extra, border)

    @property
    def options(self) -> dict[str, Any]:
        return {"stride": self.stride, "pad": self.pad, "dilation": self.dilation}

    def window(self, values: Any, row: int = 1) -> Any:
        """An option with one value for each axis, those of a signal with that of a `row`."""
        return (row, *values) if self._is_row else values

    def rows(self, a: Any) -> Any:
        """An array (..., L) beside signals as (..., 1, L)."""
        return array_namespace(a).expand_dims(a, axis=2) if self._is_row and a is not None else a

    def lines(self, a: Array) -> Array:
        """The inverse of `rows`."""
        return a[:, :, 0, :] if self._is_row else a

    def dx(self, dx: Array) -> Array:
        """The gradient of `x` as that of what was given."""
        return self.lines(cropped(dx, self._extra) if any(map(any, map(sides, self._extra))) else dx)


def as_images(x: Array, stride: Sizes, pad: Pads, dilation: Sizes, border: float = 0.0) -> Images | None:
    """Return `x` with a `border` of that value as `Images`, or None where there is nothing to change."""
    if x.ndim == 3 or (is_one_sided(pad) and not _stays(pad, border)):
        return Images(x, stride, pad, dilation, border)
    return None


def _stays(pad: Pads, border: float) -> bool:
    """Tell whether the border must not become part of the images: with -inf before them, it would take gradients.

    The first of equal maxima takes the gradient; in windows of -inf alone, it shall be a pixel.
    """
    return math.isinf(border) and any(before > after for before, after in map(sides, pad))
