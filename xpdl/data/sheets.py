"""Find a sheet of paper on a table in a photograph. Works on the host, in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.data.masks import extent, label, reduced

Image = np.ndarray[Any, Any]
Mask = np.ndarray[Any, Any]

# Longest side of the grid on which a sheet is looked for, and the shortest side of one there.
_GRID_SIDE = 96
_LEAST_SIDE = 16


def sheet_in(grey: Image) -> tuple[slice, slice] | None:
    """The rectangle of a sheet of paper on a table: of one piece, and of much another grey value than the rest."""
    grid = reduced(grey, _GRID_SIDE)
    lighter = grid > _threshold(grid)
    if not 0 < lighter.sum() < lighter.size:
        return None
    light, dark = (float(grid[mask].mean()) for mask in (lighter, ~lighter))
    # light that falls off smoothly leaves much variance inside each part
    within = float(np.where(lighter, grid - light, grid - dark).var())
    if within > 0.15 * float(grid.var()) or dark > 0.85 * light:
        return None
    for mask in (lighter, ~lighter):
        labels, _ = label(mask)
        sheet = labels == 1 + int(np.bincount(labels[mask] - 1).argmax())
        rows, columns = extent(sheet)
        if (
            min(sheet[rows, columns].shape) >= _LEAST_SIDE
            and sheet[rows, columns].size < 0.97 * sheet.size
            and is_sheet(sheet)
        ):
            return _scaled(rows, grey.shape[0] / sheet.shape[0]), _scaled(columns, grey.shape[1] / sheet.shape[1])
    return None


def _scaled(part: slice, scale: float) -> slice:
    """The same part of a larger picture, without its blurred or slanted margins."""
    cut = math.ceil(0.03 * (part.stop - part.start))
    return slice(math.ceil((part.start + cut) * scale), int((part.stop - cut) * scale))


def _threshold(grey: Image) -> float:
    """The grey value that splits the pixels into the two groups with the least variance (Otsu, 1979)."""
    levels = np.sort(grey.ravel().astype(np.float64))
    count, sums = np.arange(1, levels.size), np.cumsum(levels)
    between = count * (levels.size - count) * (sums[:-1] / count - (sums[-1] - sums[:-1]) / (levels.size - count)) ** 2
    return float(levels[int(between.argmax())]) if between.size else 0.0


def is_sheet(component: Mask) -> bool:
    """Return whether it is a sheet rather than a digit: large, and nearly filling its rectangle."""
    rows, columns = extent(component)
    part = component[rows, columns]
    return min(part.shape) > 0.2 * min(component.shape) and float(part.mean()) > 0.7
