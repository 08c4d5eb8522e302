"""Pictures of digits, prepared as MNIST's own were. Works on the host, in NumPy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xpdl.data.digits import find_digit
from xpdl.data.masks import border
from xpdl.data.pictures import in_8_bits, pillow, read_picture, wide_values

Image = np.ndarray[Any, Any]

_SIDE = 28  # of an MNIST image
_BOX = 20  # that its digit fits in
# modes that Pillow brings to RGBA with their transparency
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA", "P")


def load_digit(path: str | os.PathLike[str]) -> Image:
    """Read a picture of one digit and bring it into the form of an MNIST image.

    Parameters
    ----------
    path
        A picture in PNG, JPEG, BMP, GIF, WebP or PGM, grey or in colour, of 8 or 16 bits, rotated as its EXIF data say.
        One of 28x28 pixels is taken as it is, and inverted if its border is light: MNIST has white digits on black.
        In any other, the digit is found by `xpdl.data.digits.find_digit`, whatever the light and the ground, scaled to fit
        20x20 pixels and placed with its centre of mass in the middle, as for MNIST. Transparent pixels count as white
        paper, or as black where what is opaque is light.

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
    grey = read_picture(path, _grey)
    if grey.shape == (_SIDE, _SIDE):
        return 1 - grey if np.median(border(grey)) > 0.5 else grey
    digit = find_digit(grey)
    if digit is None:
        raise ValueError(
            f"{path}: shows no digit, its pixels are nearly all alike; write it larger or darker, or crop the picture to it"
        )
    return _centred(_fitted(digit))


def _grey(picture: Any) -> Image:
    """Grey values from 0 to 1 of a picture of any mode."""
    if picture.mode[0] in "IF":  # 16 bits, or the floating-point numbers of PFM
        values = wide_values(picture)
        most = float(values.max())
        # cameras of fewer bits leave the upper ones empty
        scales = (2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
        white = (
            next((scale for scale in scales if most <= scale), 65535.0) if picture.mode[0] == "I" else max(1.0, most)
        )
        if "transparency" not in picture.info:
            return np.asarray(np.clip(values / white, 0, 1), np.float32)
        picture = in_8_bits(picture, values / white)
    rgba = (picture if picture.mode in _WITH_ALPHA else picture.convert("RGB")).convert("RGBA")
    alpha = np.asarray(rgba.getchannel("A"))
    opaque = float(np.average(rgba.convert("L"), weights=alpha)) if alpha.any() else 0.0
    # light ink on a transparent ground is meant for a black one
    light_ink = alpha.min() < 128 and opaque > 128
    canvas = pillow().new("RGBA", rgba.size, "black" if light_ink else "white")
    canvas.alpha_composite(rgba)
    found = [np.asarray(channel) for channel in (canvas.convert("L"), *canvas.split()[:3])]
    # coloured ink may be as light as its paper
    every = -(-max(rgba.size) // 512)  # of a large picture, some pixels say enough
    low, high = np.percentile([channel[::every, ::every] for channel in found], (1, 99), axis=(1, 2))
    contrast = (high - low) * (1.5, 1, 1, 1)
    return np.asarray(found[int(contrast.argmax())], np.float32) / 255


def _fitted(grey: Image) -> Image:
    """Scaled so that the longer side has the size of the box."""
    module = pillow()
    scale = _BOX / max(grey.shape)
    height, width = (max(1, round(size * scale)) for size in grey.shape)
    return np.asarray(module.fromarray(grey).resize((width, height), module.Resampling.BILINEAR))


def _centred(grey: Image) -> Image:
    """In the middle of an image by its centre of mass, as far as the image reaches."""
    top, left = (
        min(max(round((_SIDE - 1) / 2 - float(np.average(np.arange(size), weights=mass))), 0), _SIDE - size)
        for size, mass in zip(grey.shape, (grey.sum(axis=1), grey.sum(axis=0)), strict=True)
    )
    image = np.zeros((_SIDE, _SIDE), np.float32)
    image[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return image
