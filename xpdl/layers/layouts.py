"""Axes of inputs: signals, images and volumes of layers that slide windows, and sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xpdl.errors import ShapeError
from xpdl.layers.base import Shape

_ANY = "signals (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W)"
_LAYOUTS = {1: "signals (N, C, L)", 2: "images (N, C, H, W)", 3: "volumes (N, C, D, H, W)"}
_SIZES = {1: "C, L", 2: "C, H, W", 3: "C, D, H, W"}


def rank_of(size: Any, owner: str, name: str = "size") -> int:
    """Return the number of axes that an option has numbers for; an int is of images, as in the book.

    Raises
    ------
    ShapeError
        If there are none or more than three.
    """
    rank = len(list(size)) if isinstance(size, Iterable) else 2
    if rank not in _LAYOUTS:
        raise ShapeError(f"{owner}: {name} must be an int, or one for each of 1, 2 or 3 axes, got {size!r}")
    return rank


def sequence_cure(input_shape: Shape) -> str:
    """Return advice for layers of sequences (N, T, F) where rows of `input_shape` lack an axis."""
    return "; x[None] makes a batch of one sequence" if len(input_shape) == 1 else ""


def require_layout(input_shape: Shape, rank: int | None, owner: str) -> None:
    """Raise `ShapeError` unless rows of `input_shape` are channels of so many axes, or of any number that there is."""
    if len(input_shape) - 1 not in (_LAYOUTS if rank is None else (rank,)):
        expected = _ANY if rank is None else _LAYOUTS[rank]
        raise ShapeError(f"{owner}: expected {expected}, got rows of shape {input_shape}{_cure(input_shape, rank)}")


def _cure(input_shape: Shape, rank: int | None) -> str:
    """Return advice where an axis is missing, or all axes are one."""
    if len(input_shape) == rank:
        return "; x[None] adds the axis of rows to a single one, x[:, None] the axis of channels"
    if rank is not None and len(input_shape) == 1:
        return f"; x.reshape(-1, {_SIZES[rank]}) makes them of flat rows"
    return ""
