"""Picture files, read safely and brought to one size. Works on the host, in NumPy."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xpdl.errors import ShapeError
from xpdl.ops.checks import pair

R = TypeVar("R")
HostImage = np.ndarray[Any, Any]

FITS = ("crop", "letterbox")
_MOST_PIXELS = 50_000_000
# without those whose readers start other programs or unpack archives
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")
_16_BITS = 65535.0


def read_picture(path: str | os.PathLike[str], convert: Callable[[Any], R]) -> R:
    """Return what `convert` makes of the picture in a file, upright as its EXIF data say.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no picture, or a damaged or an enormous one.
    ImportError
        If Pillow is not installed.
    """
    module = pillow()
    # outside, so that a missing file is not taken for a damaged one; and whole, so that no more can be read than is there
    with io.BytesIO(Path(path).read_bytes()) as file:
        try:
            with _without_warning(module), module.open(file, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
                return convert(importlib.import_module("PIL.ImageOps").exif_transpose(picture))
        except Exception as error:  # of a damaged file, Pillow's readers raise what comes, IndexError among them
            # Pillow shows the object that it reads from
            reason = "of no format that is read" if isinstance(error, module.UnidentifiedImageError) else error
            raise ValueError(
                f"{path}: is not a readable picture ({reason}); save it as PNG or JPEG of at most {_MOST_PIXELS:,} pixels"
            ) from error


def load_picture(
    path: str | os.PathLike[str], size: int | tuple[int, int] = 32, *, channels: int = 3, fit: str = "crop"
) -> HostImage:
    """Read a picture and bring it to one size.

    Parameters
    ----------
    path : path
        PNG, JPEG, BMP, GIF (its first image), WebP or PPM, grey or in colour, of 8 or 16 bits, rotated as its EXIF data say;
        or PFM, whose numbers are from 0 to 1, or to the largest of them. Transparent pixels count as white.
    size : int or (height, width)
        In pixels.
    channels : {3, 1}
        Red, green and blue, or grey.
    fit : {"crop", "letterbox"}
        Keep the middle of a picture of other proportions, or all of it between black bars.

    Returns
    -------
    array (channels, height, width) of float32 on the host, from 0 for black to 1

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no picture, or a damaged or an enormous one; `channels` or `fit` is none of these.
    ShapeError
        If `size` is neither a positive int nor a pair of them.
    ImportError
        If Pillow is not installed.
    """
    height, width = require_options(size, channels, fit, "load_picture")

    def convert(picture: Any) -> HostImage:
        operations, module = importlib.import_module("PIL.ImageOps"), pillow()
        scale = operations.fit if fit == "crop" else operations.pad
        scaled = scale(_opaque(picture, channels), (width, height), module.Resampling.BILINEAR)
        values = np.asarray(scaled, np.float32) / 255
        return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))

    return read_picture(path, convert)


def require_options(size: Any, channels: Any, fit: Any, owner: str) -> tuple[int, int]:
    """Check the options of `load_picture`, and return (height, width)."""
    if isinstance(channels, bool) or channels not in (1, 3):
        raise ValueError(f"{owner}: channels must be 3 (colour) or 1 (grey), got {channels!r}")
    if fit not in FITS:
        raise ValueError(f"{owner}: fit must be one of {', '.join(FITS)}, got {fit!r}")
    return pair(size, "size", owner, 1)


def prepared(path: str | os.PathLike[str], preparation: Any, owner: str) -> HostImage:
    """Return a picture as the ``preparation`` of a model says, which `load_folder` made.

    Raises
    ------
    ValueError
        If that is none of `load_folder`.
    """
    known = {"size", "channels", "fit"}
    if not (isinstance(preparation, dict) and preparation.keys() == known):
        raise ValueError(f"{owner}: the model's preparation must have {', '.join(sorted(known))}, got {preparation!r}")
    try:
        return load_picture(path, tuple(preparation["size"]), channels=preparation["channels"], fit=preparation["fit"])
    except (TypeError, ShapeError) as error:
        raise ValueError(f"{owner}: the model's preparation is damaged ({error})") from error


def _opaque(picture: Any, channels: int) -> Any:
    """Return the picture in grey or in RGB, on white where it is transparent."""
    if picture.mode[0] in "IF":
        values = wide_values(picture)
        white = _16_BITS if picture.mode[0] == "I" else max(1.0, float(values.max()))
        picture = in_8_bits(picture, values / white)
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = pillow().new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        picture = ground
    return picture.convert("L" if channels == 1 else "RGB")


def wide_values(picture: Any) -> HostImage:
    """Return the values of a picture of 16 bits, or of the floating-point numbers of PFM.

    Raises
    ------
    ValueError
        If one is not finite.
    """
    values = np.asarray(picture, np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    return values


def in_8_bits(picture: Any, shares: HostImage) -> Any:
    """Return grey values from 0 to 1 as a picture of 8 bits, transparent where `picture`, which they are of, is."""
    module = pillow()
    grey = module.fromarray((shares * 255).round().clip(0, 255).astype(np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(module.fromarray(np.where(np.asarray(picture) == clear, 0, 255).astype(np.uint8)))
    return grey


def pillow() -> Any:
    """Return the module ``PIL.Image``."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(f"reading pictures needs Pillow: pip install 'xpdl[images]' ({error})") from error


@contextlib.contextmanager
def _without_warning(module: Any) -> Iterator[None]:
    """Silence Pillow's warning of a size that is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", module.DecompressionBombWarning)
        yield
