"""Borders of windows: as options name them, as many on both sides or one-sided, and as part of the images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from xpdl.backends.arrays import Pads, Pair
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.ops.checks import along_axes

# As options name them: "same" depends on the input.
Padding: TypeAlias = Pads | Literal["same"]
Sizes = tuple[int, ...]


def padding(value: Any, rank: int, owner: str) -> Padding:
    """Return the option `pad` of windows over `rank` axes: "same", or what is added before and after each axis.

    An int stands for both sides of an axis, and one alone for all axes.

    Raises
    ------
    ShapeError
        If it is something else.
    """
    if isinstance(value, str):
        if value == "same":
            return "same"
        raise ShapeError(f'{owner}: pad must be "same", an int, or one for each axis, got {value!r}')
    if not isinstance(value, Iterable):
        return along_axes(value, "pad", owner, 0, rank)
    items = list(value)
    if not any(isinstance(item, Iterable) for item in items):
        return along_axes(value, "pad", owner, 0, rank)
    if len(items) != rank:
        raise ShapeError(f"{owner}: pad must have an int or (before, after) for each of {rank} axes, got {value!r}")
    both = [along_axes(item, "pad (before, after)", owner, 0, 2) for item in items]
    return _simplest([(before, after) for before, after in both])


def sides(pad: int | Pair) -> Pair:
    """(before, after) of one axis."""
    return (pad, pad) if isinstance(pad, int) else pad


def resolved(pad: Padding, length: Sizes, extent: Sizes, stride: Sizes) -> Pads:
    """Return the border along each axis of images of that `length`, for windows that cover `extent`.

    "same" gives ``ceil(length / stride)`` windows; of an odd border, the larger part comes after the image.
    """
    if not isinstance(pad, str):
        return pad
    axes = zip(length, extent, stride, strict=True)
    return halves([max((-(-size // step) - 1) * step + cover - size, 0) for size, cover, step in axes])


def halves(totals: Iterable[int]) -> Pads:
    """Return borders of those widths along each axis, half on each side; of an odd one, the larger part is behind."""
    return _simplest([(total // 2, total - total // 2) for total in totals])


def rounded_up(pad: Pads, length: Sizes, extent: Sizes, stride: Sizes) -> Pads:
    """Return `pad`, wider at the end where a last window would overhang it: the number of windows is rounded up.

    A window that would start behind the image is none.
    """
    borders = []
    for border, size, cover, step in zip(pad, length, extent, stride, strict=True):
        before, after = sides(border)
        start = -(-(before + size + after - cover) // step) * step
        if start >= before + size:
            start -= step
        borders.append((before, max(after, start + cover - before - size)))
    return _simplest(borders)


def is_one_sided(pad: Pads) -> bool:
    """Return whether an axis has more border on one side than on the other."""
    return any(before != after for before, after in map(sides, pad))


def in_the_image(pad: Pads) -> tuple[Pads, Pads]:
    """Split a border into what is to be added to the images, and what is left, as many on both sides of an axis."""
    both = [sides(border) for border in pad]
    left = tuple(min(border) for border in both)
    extra = tuple((before - even, after - even) for (before, after), even in zip(both, left, strict=True))
    return extra, left


def pad_images(x: Array, pad: Pads, value: float = 0.0) -> Array:
    """`x` (N, C, ...) with a border of `value` along the axes behind the channels."""
    xp = array_namespace(x)
    shape = list(x.shape[1:])
    for axis, (before, after) in enumerate(map(sides, pad), start=2):
        if before or after:
            line = xp.full_like(x[(*_whole(axis), slice(0, 1), ...)], value)
            x = xp.concat([line] * before + [x] + [line] * after, axis=axis)
            shape[axis - 1] += before + after
    # shapes stay known when the batch size is symbolic (ONNX export)
    return xp.reshape(x, (-1, *shape)) if shape != list(x.shape[1:]) or any(map(any, map(sides, pad))) else x


def cropped(x: Array, pad: Pads) -> Array:
    """`x` (N, C, ...) without that border: the adjoint of `pad_images` with zeros."""
    inner = (
        slice(before, length - after) for length, (before, after) in zip(x.shape[2:], map(sides, pad), strict=True)
    )
    return x[(slice(None), slice(None), *inner)]


def _simplest(borders: list[Pair]) -> Pads:
    """One int for each axis where both sides are equal everywhere, else pairs."""
    if all(before == after for before, after in borders):
        return tuple(before for before, _ in borders)
    return tuple(borders)


def _whole(axes: int) -> tuple[slice, ...]:
    return (slice(None),) * axes
