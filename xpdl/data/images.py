"""Pictures of digits, prepared as MNIST's own were. Works on the host, in NumPy."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Image = np.ndarray[Any, Any]

_SIDE = 28  # of an MNIST image
_BOX = 20  # that its digit fits in
_MOST_PIXELS = 50_000_000
# without those whose readers start other programs or unpack archives
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")


def load_digit(path: str | os.PathLike[str]) -> Image:
    """Read a picture of one digit and bring it into the form of an MNIST image.

    Parameters
    ----------
    path
        A picture in PNG, JPEG, BMP, GIF, WebP or PGM. One of 28x28 pixels is taken as it is; otherwise the digit is cut
        out, scaled to fit 20x20 pixels and placed with its centre of mass in the middle, as for MNIST. Dark on light is
        inverted: MNIST has white digits on black, and what the border shows is taken for the ground.

    Returns
    -------
    array (28, 28) of float32 on the host, from 0 for the ground to 1

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no picture, a damaged or an enormous one, or shows nothing.
    ImportError
        If Pillow is not installed.
    """
    grey = _read(path)
    if np.median(_border(grey)) > 0.5:
        grey = 1 - grey
    if grey.shape == (_SIDE, _SIDE):
        return grey
    grey = np.maximum(grey - np.median(_border(grey)), 0)
    if grey.max() < 0.1:
        raise ValueError(f"{path}: shows no digit, its pixels are all alike")
    grey /= grey.max()
    ink = grey > 0.2
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return _centred(_fitted(grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def _read(path: str | os.PathLike[str]) -> Image:
    pillow = _pillow()
    # outside, so that a missing file is not taken for a damaged one; and whole, so that no more can be read than is there
    with io.BytesIO(Path(path).read_bytes()) as file:
        try:
            with _without_warning(pillow), pillow.open(file, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
                # transparent counts as white paper
                canvas = pillow.new("RGBA", picture.size, "white")
                canvas.alpha_composite(picture.convert("RGBA"))
                return np.asarray(canvas.convert("L"), dtype=np.float32) / 255
        except Exception as error:  # of a damaged file, Pillow's readers raise what comes, IndexError among them
            raise ValueError(f"{path}: is not a readable picture ({error})") from error


@contextlib.contextmanager
def _without_warning(pillow: Any) -> Iterator[None]:
    """Pillow warns of a size that is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
        yield


def _border(grey: Image) -> Image:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _fitted(grey: Image) -> Image:
    """Scaled so that the longer side has the size of the box."""
    pillow = _pillow()
    scale = _BOX / max(grey.shape)
    height, width = (max(1, round(size * scale)) for size in grey.shape)
    return np.asarray(pillow.fromarray(grey).resize((width, height), pillow.Resampling.BILINEAR))


def _centred(grey: Image) -> Image:
    """In the middle of an image by its centre of mass, as far as the image reaches."""
    top, left = (
        min(max(round((_SIDE - 1) / 2 - float(np.average(np.arange(size), weights=mass))), 0), _SIDE - size)
        for size, mass in zip(grey.shape, (grey.sum(axis=1), grey.sum(axis=0)), strict=True)
    )
    image = np.zeros((_SIDE, _SIDE), np.float32)
    image[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return image


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(f"reading pictures needs Pillow: pip install 'xpdl[images]' ({error})") from error
