"""Synthetic photographs of handwritten digits, with what goes wrong in real ones."""

from __future__ import annotations

import importlib

import numpy as np

#: name -> disturbances of a photograph
KINDS = {
    "even light": (),
    "light from one side": ("shade",),
    "vignette": ("vignette",),
    "shadow": ("shadow",),
    "blotches": ("blotches",),
    "dust": ("dust",),
    "ruled": ("lines",),
    "squared": ("lines", "columns"),
    "chalk": ("chalk",),
    "chalk, light from one side": ("chalk", "shade"),
    "table beside the page": ("table",),
    "corner of the page": ("corner",),
    "page on a table": ("sheet",),
    "page on a wooden table": ("sheet", "wood"),
    "thumb": ("thumb",),
    "noise": ("noise",),
    "small": ("small",),
    "small, dust, light from one side": ("small", "dust", "shade"),
    "rotated": ("rotated",),
    "ruled, shadow, dust": ("lines", "shadow", "dust"),
    "everything": ("lines", "shadow", "dust", "vignette", "rotated", "noise"),
}


def photograph(digit, rng, kinds=()):
    """Grey values from 0 to 1 of a photograph of `digit` (28, 28), ink 1 on 0, as an array (H, W)."""
    shape = h, w = [(480, 360), (360, 480), (300, 300), (640, 480)][rng.integers(4)]
    small = {"small", "corner", "sheet"} & set(kinds)
    size = int(min(shape) * (rng.uniform(0.2, 0.4) if small else rng.uniform(0.45, 0.8)))
    ink = _written(digit, rng, shape, size, rng.uniform(-10, 10) if "rotated" in kinds else 0)
    y, x = np.mgrid[:h, :w]
    reflected = 1 - rng.uniform(0.45, 0.8) * ink
    for along, across, kind in ((x, y, "lines"), (-y, x, "columns")):
        if kind in kinds:
            gap, thickness, slope = rng.uniform(22, 50), rng.integers(1, 4), rng.uniform(-0.04, 0.04)
            distance = np.abs((across + slope * along) % gap - gap / 2)
            line = np.clip(thickness - 2 * distance + 1, 0, 1)
            reflected = np.minimum(reflected, 1 - rng.uniform(0.1, 0.5) * line)
    if "dust" in kinds:
        for _ in range(rng.integers(1, 8)):
            speck = (y - rng.integers(h)) ** 2 + (x - rng.integers(w)) ** 2 < rng.uniform(1, 4) ** 2
            reflected[speck] = rng.uniform(0.1, 0.5)
    grey = rng.uniform(0.65, 0.95) * reflected
    if "chalk" in kinds:
        grey = rng.uniform(0.1, 0.25) + (1 - reflected) * rng.uniform(0.7, 1.0)
    if "table" in kinds:
        depth = rng.uniform(0.04, 0.15) + rng.uniform(-0.05, 0.05) * x / w
        grey = np.where(y < depth * h, rng.uniform(0.1, 0.4), grey)
    if "corner" in kinds or "sheet" in kinds:
        grey = _on_a_table(grey, ink, rng, "sheet" in kinds, "wood" in kinds)
    if "thumb" in kinds:
        corner = ((y - rng.choice([0, h])) / (0.25 * h)) ** 2 + ((x - rng.choice([0, w])) / (0.12 * w)) ** 2
        grey = np.where(corner < 1, 0.35, grey)
    direction = rng.uniform(0, 2 * np.pi)
    distance = np.cos(direction) * (x / w - 0.5) + np.sin(direction) * (y / h - 0.5)
    if "shade" in kinds:
        grey = grey * (1 - rng.uniform(0.2, 0.5) * (distance - distance.min()) / np.ptp(distance))
    if "vignette" in kinds:
        grey = grey * (1 - rng.uniform(0.3, 0.6) * 2 * ((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2))
    if "shadow" in kinds:
        edge = (distance - rng.uniform(-0.25, 0.25)) / rng.uniform(0.005, 0.08)
        grey = grey * (1 - rng.uniform(0.25, 0.5) / (1 + np.exp(-edge)))
    if "blotches" in kinds:
        grey = grey * (1 - rng.uniform(0.1, 0.3) * _resized(rng.random((5, 5)), shape))
    grey = grey + rng.normal(0, rng.uniform(0.005, 0.05 if "noise" in kinds else 0.015), shape)
    return np.clip(grey, 0, 1)


def save(grey, path, rng):
    """Write a photograph as a JPEG of some quality."""
    pillow = importlib.import_module("PIL.Image")
    pillow.fromarray((grey * 255).astype(np.uint8)).save(path, "JPEG", quality=int(rng.integers(60, 95)))


def _written(digit, rng, shape, size, angle):
    """Ink from 0 to 1 of a digit somewhere on a page."""
    pillow, filters = importlib.import_module("PIL.Image"), importlib.import_module("PIL.ImageFilter")
    how = pillow.Resampling.BICUBIC
    large = pillow.fromarray((digit * 255).astype(np.uint8)).resize((size, size), how).rotate(angle, how)
    page = pillow.new("L", shape[::-1])
    page.paste(large, tuple(int(rng.integers(4, length - size - 4)) for length in page.size))
    return np.asarray(page.filter(filters.GaussianBlur(rng.uniform(0.5, 1.8))), float) / 255


def _on_a_table(grey, ink, rng, whole, wood):
    """The page cut off at two of its sides, or at all four, slightly rotated, with a table beside it."""
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
    slope, page = rng.uniform(-0.06, 0.06), np.ones_like(grey, bool)
    sides = ((x, y, columns[0], 1), (y, -x, rows[0], 1), (x, y, columns[-1], -1), (y, -x, rows[-1], -1))
    for along, across, nearest, sign in sides if whole else sides[:2]:
        # half-way between the digit and the border of the picture, and never beyond the digit
        end = nearest / 2 if sign > 0 else (nearest + along.max()) / 2
        page &= sign * (along - end + slope * (across - across.mean())) > 0
    table = rng.uniform(0.1, 0.5) + (0.1 * np.sin(y / 6 + 3 * np.sin(x / 90)) if wood else 0)
    return np.where(page | (ink > 0.1), grey, table)


def _resized(grey, shape):
    pillow = importlib.import_module("PIL.Image")
    return np.asarray(pillow.fromarray(grey.astype(np.float32)).resize(shape[::-1], pillow.Resampling.BICUBIC))
