"""Connected components, morphology and sizes of pictures. Works on the host, in NumPy."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

Image = np.ndarray[Any, Any]
Mask = np.ndarray[Any, Any]


def label(mask: Mask) -> tuple[Image, int]:
    """Number the connected components of a mask, diagonal neighbours included.

    Returns
    -------
    labels : array of int, 0 outside of `mask` and 1, 2, ... inside
    count : int
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    row, start = np.nonzero(np.diff(padded, axis=1) == 1)
    _, stop = np.nonzero(np.diff(padded, axis=1) == -1)
    parent = list(range(len(row)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    first = np.searchsorted(row, np.arange(height + 1)).tolist()
    starts, stops = start.tolist(), stop.tolist()
    for r in range(1, height):
        above, here = first[r - 1], first[r]
        while above < first[r] and here < first[r + 1]:
            if starts[here] <= stops[above] and starts[above] <= stops[here]:
                parent[root(here)] = root(above)
            if stops[above] < stops[here]:
                above += 1
            else:
                here += 1
    roots, numbers = np.unique([root(k) for k in range(len(row))], return_inverse=True)
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(numbers + 1, stop - start)
    return labels, len(roots)


def dilated(mask: Mask, side: int = 3) -> Mask:
    """Each pixel with those of the square of that side around it."""
    return ~eroded(~mask, side)


def eroded(mask: Mask, side: int) -> Mask:
    """The centres of the squares of that side that lie in the mask."""
    before = side // 2
    whole = np.pad(mask, ((before, side - 1 - before),) * 2, mode="edge").astype(np.int32)
    for _ in range(2):  # along rows, then along columns
        sums = np.cumsum(np.pad(whole, ((0, 0), (1, 0))), axis=1)
        whole = (sums[:, side:] - sums[:, :-side] == side).astype(np.int32).T
    return whole.astype(bool)


def extent(mask: Mask, inset: float = 0.0) -> tuple[slice, slice]:
    """The rows and columns of the smallest rectangle around a mask, less a share of it on each side."""

    def one(used: Any) -> slice:
        at = np.flatnonzero(used)
        cut = int(inset * (at[-1] + 1 - at[0]))
        return slice(int(at[0]) + cut, int(at[-1]) + 1 - cut)

    return one(np.any(mask, axis=1)), one(np.any(mask, axis=0))


def border(a: Image) -> Image:
    """The pixels of the four sides, as one row."""
    return np.concatenate([a[0], a[-1], a[:, 0], a[:, -1]])


def reduced(grey: Image, side: int) -> Image:
    """A copy whose longer side is at most `side`, by averages."""
    scale = side / max(grey.shape)
    height, width = (max(1, round(size * scale)) for size in grey.shape)
    return grey if scale >= 1 else resized(grey, (height, width), box=True)


def resized(grey: Image, shape: tuple[int, ...], *, box: bool = False) -> Image:
    pillow = importlib.import_module("PIL.Image")
    how = pillow.Resampling.BOX if box else pillow.Resampling.BILINEAR
    return np.asarray(pillow.fromarray(np.ascontiguousarray(grey, np.float32)).resize(shape[::-1], how))
