"""Transforms that move or erase whole pixels, of any dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import Stream
from xpdl.data.augment.base import Transform, beside, number
from xpdl.data.augment.resampling import affine, pick, pixels
from xpdl.errors import ShapeError
from xpdl.ops.checks import flag, pair, require_floating


class Flip(Transform):
    """Mirror images: left and right change places, or top and bottom.

    Parameters
    ----------
    horizontal, vertical : float
        The probability, from 0 to 1, that an image is mirrored left to right, and top to bottom.

    Raises
    ------
    TypeError, ValueError
        If one of them is no probability.
    """

    computes = False

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        self.horizontal = number(horizontal, "horizontal", "Flip", 0.0, 1.0)
        self.vertical = number(vertical, "vertical", "Flip", 0.0, 1.0)

    def apply(self, x: Array, stream: Stream) -> Array:
        xp = array_namespace(x)
        draws = self.generator(stream, "draws").random((x.shape[0], 2))
        for axis, share in ((2, self.vertical), (3, self.horizontal)):
            chosen = draws[:, axis - 2].reshape(-1, 1, 1, 1) < share
            x = xp.where(beside(chosen, x), xp.flip(x, axis=axis), x)
        return x


class Shift(Transform):
    """Move images; what comes in from outside is 0.

    Parameters
    ----------
    pixels : int or pair
        Each image moves by up to so many pixels down or up, and right or left, every distance equally likely; a pair is
        (vertical, horizontal).
    whole : bool
        Move by whole pixels, and so keep values as they are. Without it, distances are real numbers, and so may be
        `pixels`; values are blended from those of four pixels, which takes a floating dtype.

    Raises
    ------
    ShapeError, TypeError, ValueError
        If `pixels` is negative, or not whole where it has to be.
    """

    computes = False

    def __init__(self, pixels: float | tuple[float, float] = 2, *, whole: bool = True) -> None:
        self.pixels: tuple[float, float]
        if flag(whole, "whole", "Shift"):
            self.pixels = pair(pixels, "pixels", "Shift", 0)
        else:
            down, right = pixels if isinstance(pixels, (tuple, list)) and len(pixels) == 2 else (pixels, pixels)
            self.pixels = number(down, "pixels", "Shift", 0.0), number(right, "pixels", "Shift", 0.0)
        self.whole = whole

    def apply(self, x: Array, stream: Stream) -> Array:
        rng, images = self.generator(stream, "pixels"), x.shape[0]
        limits = np.array(self.pixels)
        if not self.whole:
            require_floating(x, "Shift")
            return affine(x, np.tile(np.eye(2), (images, 1, 1)), rng.uniform(-limits, limits, (images, 2)))
        # of a distance so long that nothing is left, the rest makes no difference, and all stays within small integers
        longest = np.array(x.shape[2:])
        moves = np.clip(rng.integers(-limits, limits + 1, (images, 2)), -longest, longest)
        return _moved(x, -moves, (x.shape[2], x.shape[3]))


class Crop(Transform):
    """Cut a window out of each image, at a random place.

    Parameters
    ----------
    size : int or pair, optional
        Of the window, (height, width) in pixels; by default that of the images.
    pad : int or pair
        So many pixels of 0 are first put around the images, (above and below, left and right).

    Raises
    ------
    ShapeError
        If `size` is not positive or `pad` is negative; in a call, if the window is larger than the padded images.

    Notes
    -----
    With ``pad=4`` and images of 32x32, the augmentation of K. He et al., "Deep Residual Learning for Image Recognition",
    2015, section 4.2.
    """

    computes = False

    def __init__(self, size: int | tuple[int, int] | None = None, pad: int | tuple[int, int] = 0) -> None:
        self.size = None if size is None else pair(size, "size", "Crop", 1)
        self.pad = pair(pad, "pad", "Crop", 0)

    def apply(self, x: Array, stream: Stream) -> Array:
        padded = x.shape[2] + 2 * self.pad[0], x.shape[3] + 2 * self.pad[1]
        size = self.size or (x.shape[2], x.shape[3])
        if size[0] > padded[0] or size[1] > padded[1]:
            raise ShapeError(
                f"Crop: a window of {size} does not fit into images of {tuple(x.shape[2:])} with pad={self.pad}"
            )
        free = np.subtract(padded, size)
        corners = self.generator(stream, "corner").integers(0, free + 1, (x.shape[0], 2))
        return _moved(x, corners - np.array(self.pad), size)


class Cutout(Transform):
    """Erase a rectangle of each image; its centre may be any pixel, so that some of it may lie outside.

    Parameters
    ----------
    size : int or pair
        (height, width) in pixels; 0 erases nothing.

    Raises
    ------
    ShapeError
        If `size` is negative or no int.

    Notes
    -----
    T. DeVries, G. W. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017: all channels
    become 0 there.
    """

    computes = False

    def __init__(self, size: int | tuple[int, int] = 8) -> None:
        self.size = pair(size, "size", "Cutout", 0)

    def apply(self, x: Array, stream: Stream) -> Array:
        xp = array_namespace(x)
        centres = self.generator(stream, "centre").integers(0, x.shape[2:], (x.shape[0], 2))
        erased = None
        for axis, size in enumerate(self.size):
            place = pixels(x.shape[2 + axis], x, 1 + axis)
            begin = beside(centres[:, axis].reshape(-1, 1, 1) - size // 2, x, place.dtype)
            within = (place >= begin) & (place < begin + size)
            erased = within if erased is None else erased & within
        return xp.where(xp.expand_dims(erased, axis=1), xp.zeros_like(x), x)


def _moved(x: Array, corners: np.ndarray[Any, Any], size: tuple[int, int]) -> Array:
    """The windows of `size` whose first pixels are the `corners` (N, 2), (row, column) on the host; 0 outside of `x`."""
    rows, columns = (
        (places := pixels(size[axis], x, 1 + axis)) + beside(corners[:, axis].reshape(-1, 1, 1), x, places.dtype)
        for axis in (0, 1)
    )
    return pick(x, rows, columns)
