"""Find the handwritten digit in a photograph: remove uneven light, ruled lines and dust. Works on the host, in NumPy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from xpdl.data.masks import border, dilated, eroded, extent, label, reduced, resized
from xpdl.data.sheets import is_sheet, sheet_in

Image = np.ndarray[Any, Any]
Mask = np.ndarray[Any, Any]

# Longest side of the copy in which the digit is looked for: strokes are still several pixels wide, noise is averaged.
_WORKING_SIDE = 384
# Longest side of the grid on which the background is a median.
_GRID_SIDE = 48
# Ink is what differs from the background by this much, and by so many standard deviations of the noise.
_LEAST_CONTRAST = 0.07
_SIGMAS = 4.5
# Of the contrast of a digit's strokes, this much is still ink: the blurred edge of a stroke.
_EDGE = 0.3
# A ruled line covers this share of the side that it runs along, and is at most this share of the other side thick.
_LINE_COVERAGE = 0.7
_LINE_THICKNESS = 0.02
_MOST_SLOPE = 0.12
# A component at the border that is wider than a stroke, as a share of the longer side, lies beside the page.
_MARGIN = 0.09


class Ink(NamedTuple):
    """The contrast of a picture with its background, and which pixels are the digit's."""

    contrast: Image
    digit: Mask

    @property
    def weight(self) -> float:
        return float(self.contrast[self.digit].sum())


# The digit on a sheet, as a share of the sheet's shorter side, and of the ink found in the whole picture.
_LEAST_EXTENT = 0.1
_LEAST_ON_SHEET = 0.015


def find_digit(grey: Image) -> Image | None:
    """Cut the digit out of a picture, as ink on an empty ground.

    The background is a median of the surroundings, so light may fall off or a shadow lie across; the digit is the connected
    strokes with the most ink that do not reach in from the border, darker or lighter than the background. Ruled lines are
    erased first where they cross the whole picture. On a sheet that lies on a table, the digit is looked for in the sheet.

    Parameters
    ----------
    grey : array (H, W) of float32
        From 0 for black to 1 for white.

    Returns
    -------
    array (h, w) of float32, from 0 for the ground to 1, as large as the digit; None where there is none
    """
    small = reduced(grey, _WORKING_SIDE)
    found = _darker_and_lighter(small)
    found = _on_a_sheet(small, found) or found
    page = found.digit if found is not None else None
    if found is not None and page is not None and is_sheet(page):
        rows, columns = extent(page, inset=0.04)
        on_page = _darker_and_lighter(small[rows, columns])
        if on_page is not None and not is_sheet(on_page.digit):
            found = on_page
    if found is None:
        return None
    level = float(np.percentile(found.contrast[found.digit], 65))
    ink = np.where(dilated(found.digit), np.clip(found.contrast / level, 0, 1), 0)
    ink[ink < _EDGE / 2] = 0
    rows, columns = extent(found.digit)
    return np.asarray(ink[rows, columns], np.float32)


def _darker_and_lighter(grey: Image) -> Ink | None:
    """The digit with more ink of those found among what is darker and what is lighter than the background."""
    background = _background(grey)
    difference = grey - background
    noise = _noise(grey)
    # light multiplies: the same ink makes less difference in a shadow
    darker = np.clip(-difference / np.maximum(background, 0.05), 0, 1) * float(background.mean())
    found = [ink for contrast in (darker, np.clip(difference, 0, 1)) if (ink := _strokes(contrast, noise)) is not None]
    return max(found, key=lambda ink: ink.weight, default=None)


def _on_a_sheet(grey: Image, found: Ink | None) -> Ink | None:
    """The digit on a sheet that is smaller than the picture, unless it is a part of the one found without it."""
    sheet = sheet_in(grey)
    ink = None if sheet is None else _darker_and_lighter(grey[sheet])
    if sheet is None or ink is None:
        return None
    rows, columns = extent(ink.digit)
    height, width = ink.digit.shape
    inside = rows.start > 0 and rows.stop < height and columns.start > 0 and columns.stop < width
    large = max(rows.stop - rows.start, columns.stop - columns.start) > _LEAST_EXTENT * min(height, width)
    if not (inside and large):
        return None
    if found is not None:
        # the edge of a shadow looks like one of a sheet, but the digit goes on beyond it
        same = float(found.digit[sheet][ink.digit].mean()) > 0.5
        if same or ink.weight < _LEAST_ON_SHEET * found.weight:
            return None
    return ink


def _strokes(contrast: Image, noise: float) -> Ink | None:
    """The connected strokes with the most ink."""
    mask = contrast > max(_LEAST_CONTRAST, _SIGMAS * noise)
    mask = mask & ~_ruled(mask) & ~_ruled(mask.T).T
    within = mask & ~_beside_the_page(mask)
    first = _heaviest(within, contrast)
    if first is None:
        # a digit that fills the picture, with bold strokes that touch the border
        within = mask
        first = _heaviest(mask, contrast)
    if first is None:
        return None
    # again by the contrast of these strokes, which leaves paler lines and shadows out
    level = float(np.percentile(contrast[first], 80))
    digit = _heaviest(within & (contrast > _EDGE * level), contrast)
    return None if digit is None else Ink(contrast, digit)


def _heaviest(mask: Mask, contrast: Image) -> Mask | None:
    """The component with the most ink, with the broken parts that belong to it."""
    labels, count = label(mask)
    if not count:
        return None
    weights = np.bincount(labels.ravel(), contrast.ravel(), count + 1)
    weights[0] = 0
    inner = weights.copy()
    inner[np.unique(border(labels))] *= 0.05
    main = int(inner.argmax())
    if inner[main] < 4 * _LEAST_CONTRAST:
        return None
    rows, columns = extent(labels == main)
    reach = math.ceil(0.15 * max(rows.stop - rows.start, columns.stop - columns.start))
    near = labels[max(rows.start - reach, 0) : rows.stop + reach, max(columns.start - reach, 0) : columns.stop + reach]
    parts = [k for k in np.unique(near) if k and inner[k] >= 0.05 * inner[main]]
    return np.isin(labels, parts)


def _background(grey: Image) -> Image:
    """The grey value of the ground at each pixel: a median of the surroundings, which are mostly ground."""
    grid = reduced(grey, _GRID_SIDE)
    rough = _median(grid, max(1, max(grid.shape) // 2))
    # again from nearer surroundings, with the ink painted over
    ink = np.abs(grid - rough) > 0.5 * np.percentile(np.abs(grid - rough), 98)
    fine = _median(np.where(ink, rough, grid), max(1, max(grid.shape) // 5))
    return resized(fine, grey.shape)


def _median(grid: Image, window: int) -> Image:
    before = window // 2
    padded = np.pad(grid, ((before, window - 1 - before),) * 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    return np.asarray(np.median(windows.reshape(*grid.shape, -1), axis=-1), np.float32)


def _noise(grey: Image) -> float:
    """The standard deviation of the noise, from second differences, most of which no stroke crosses."""
    second = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    return float(np.median(np.abs(second))) / 0.6745 / math.sqrt(6) if second.size else 0.0


def _ruled(mask: Mask) -> Mask:
    """Pixels of thin lines from one side to the other, nearly level, but for those where a stroke crosses."""
    height, width = mask.shape
    y, x = np.nonzero(mask)
    found = np.zeros_like(mask)
    if not y.size:
        return found
    offset = math.ceil(_MOST_SLOPE * width)
    counts = {
        slope: np.bincount(np.rint(y - slope * x).astype(np.intp) + offset, minlength=height + 2 * offset)
        for slope in np.linspace(-_MOST_SLOPE, _MOST_SLOPE, 97)
    }
    slope = max(counts, key=lambda s: float((counts[s].astype(float) ** 2).sum()))
    lines = np.concatenate([[False], counts[slope] > _LINE_COVERAGE * width, [False]])
    edges = np.flatnonzero(lines[1:] != lines[:-1])
    columns = np.arange(width)
    shift = np.rint(slope * columns).astype(np.intp) - offset
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        if bottom - top > max(2, _LINE_THICKNESS * height):
            continue
        # its blurred edges are of it, too
        rows = np.arange(top - 1, bottom + 1)[:, None] + shift
        above, below = (np.clip(row + shift, 0, height - 1) for row in (top - 3, bottom + 2))
        crossed = mask[above, columns] & mask[below, columns]
        inside = (rows >= 0) & (rows < height) & ~crossed
        found[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] = True
    return found


def _beside_the_page(mask: Mask) -> Mask:
    """A table or a thumb: pixels that lie in wide squares of the mask which reach the border."""
    side = max(3, round(_MARGIN * max(mask.shape)))
    # beyond the border it goes on as at the border
    wide = dilated(eroded(np.pad(mask, side, mode="edge"), side), side + 4)
    inside = wide[side : side + mask.shape[0], side : side + mask.shape[1]] & mask
    labels, _ = label(inside)
    at_border = np.unique(border(labels))
    return np.isin(labels, at_border[at_border > 0])
