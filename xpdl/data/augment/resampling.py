"""Images read at other places than their own pixels: one gather for whole pixels, four blended ones in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.data.augment.base import beside, working_dtype
from xpdl.ops.padding import pad_images


def pixels(size: int, like: Array, axis: int) -> Array:
    """The numbers 0 to `size` - 1 along one axis of three, as integers on the device of `like`."""
    xp = array_namespace(like)
    # without a dtype they are what the library indexes with, 32-bit in JAX, say
    return xp.reshape(xp.arange(size, device=device(like)), tuple(size if i == axis else 1 for i in range(3)))


def pick(x: Array, rows: Array, columns: Array) -> Array:
    """The pixels of images at whole rows and columns, 0 outside of the image.

    Parameters
    ----------
    x : array (N, C, H, W)
    rows, columns : integer arrays that broadcast to (N, OH, OW)

    Returns
    -------
    array (N, C, OH, OW)
        ``y[n, c, i, j] = x[n, c, rows[n, i, j], columns[n, i, j]]``.
    """
    xp = array_namespace(x)
    height, width = x.shape[2:]
    images = _Ringed(x)
    return images.at(images.index(xp.clip(rows, -1, height), xp.clip(columns, -1, width)))


def bilinear(x: Array, rows: Array, columns: Array) -> Array:
    """The values of images between their pixels, blended from the four around; 0 outside of the image.

    Parameters
    ----------
    x : floating array (N, C, H, W)
    rows, columns : floating arrays that broadcast to (N, OH, OW)
        In pixels: 0.5 lies between the first pixel and the second.

    Returns
    -------
    array (N, C, OH, OW), of the dtype of `x`

    Notes
    -----
    Across the border, values fall to 0 within one pixel, so that the result is continuous in the coordinates: rounding
    that differs from library to library never shows.
    """
    xp = array_namespace(x)
    images = _Ringed(x)
    top, down = _split(rows, x.shape[2])
    left, right = _split(columns, x.shape[3])
    integer = pixels(1, x, 0).dtype
    index = images.index(xp.astype(top, integer), xp.astype(left, integer))
    dtype = rows.dtype
    # one axis for the channels
    down, right = xp.expand_dims(down, axis=1), xp.expand_dims(right, axis=1)

    def across(index: Array) -> Array:
        first, second = xp.astype(images.at(index), dtype), xp.astype(images.at(index + 1), dtype)
        return first + right * (second - first)

    above, below = across(index), across(index + images.width)
    return xp.astype(above + down * (below - above), x.dtype)


def affine(x: Array, matrices: np.ndarray[Any, Any], shifts: np.ndarray[Any, Any]) -> Array:
    """Images read at ``matrix @ (place - centre) + centre - shift``, in pixels (row, column).

    Parameters
    ----------
    x : floating array (N, C, H, W)
    matrices : (N, 2, 2), on the host
    shifts : (N, 2), on the host

    Returns
    -------
    array like `x`
    """
    xp = array_namespace(x)
    dtype = working_dtype(xp, x)
    centre = [(size - 1) / 2 for size in x.shape[2:]]
    down, right = (xp.astype(pixels(x.shape[2 + axis], x, 1 + axis), dtype) - centre[axis] for axis in (0, 1))

    def drawn(values: np.ndarray[Any, Any]) -> Array:
        return beside(values.reshape(-1, 1, 1), x, dtype)

    rows, columns = (
        drawn(matrices[:, axis, 0]) * down
        + drawn(matrices[:, axis, 1]) * right
        + (centre[axis] - drawn(shifts[:, axis]))
        for axis in (0, 1)
    )
    return bilinear(x, rows, columns)


def _split(places: Array, size: int) -> tuple[Array, Array]:
    """The pixel before each place, from -1 to `size` - 1, and how far the place lies behind it, from 0 to 1."""
    xp = array_namespace(places)
    places = xp.clip(places, -1.0, float(size))
    first = xp.clip(xp.floor(places), -1.0, float(size - 1))
    return first, places - first


class _Ringed:
    """Images in a ring of zeros one pixel wide, ready to be read at rows -1 to H and columns -1 to W."""

    def __init__(self, x: Array) -> None:
        self.xp = array_namespace(x)
        self.images, self.channels, height, width = x.shape
        self.height, self.width = height + 2, width + 2
        # one row per pixel: a single index then takes all channels
        last = self.xp.permute_dims(pad_images(x, (1, 1), 0), (0, 2, 3, 1))
        self.flat = self.xp.reshape(last, (self.images * self.height * self.width, self.channels))
        self.first = pixels(self.images, x, 0) * self.height

    def index(self, rows: Array, columns: Array) -> Array:
        """Return indices into `flat` of the pixels at `rows` and `columns`, (N, OH, OW); 1 more is to the right."""
        return (self.first + rows + 1) * self.width + columns + 1

    def at(self, index: Array) -> Array:
        """The pixels (N, C, OH, OW) there."""
        xp = self.xp
        taken = xp.take(self.flat, xp.reshape(index, (-1,)), axis=0)
        return xp.permute_dims(xp.reshape(taken, (*index.shape, self.channels)), (0, 3, 1, 2))
