"""Maximum and average pooling over windows of images, signals and volumes."""

from __future__ import annotations

import functools
import math

from xpdl.backends.arrays import Pads
from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device, rounded_to, widened
from xpdl.ops.epilogues import activated, before_activation
from xpdl.ops.padding import Sizes, pad_images, sides
from xpdl.ops.precision import in_float32
from xpdl.ops.ranks import as_images
from xpdl.ops.volumes import columns_of, merged_frames, pooled_columns, pooled_volumes, stages
from xpdl.ops.windows import output_sizes, overlap_add, shifted

_ONE = (1, 1)
_LOWEST = -float("inf")


def _taps(x: Array, size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes, value: float) -> list[Array]:
    out = output_sizes(x.shape[2:], size, stride, pad, dilation, "pooling")
    return shifted(pad_images(x, pad, value), size, stride, dilation, out)


@op
def max_pooling(
    x: Array,
    size: Sizes,
    stride: Sizes,
    pad: Pads = (0, 0),
    *,
    dilation: Sizes = (1, 1),
    activation: str | None = None,
) -> Array:
    """Take the largest value of each window, or relu of it, which is also the largest of relu's values.

    Parameters
    ----------
    x : array (N, C, H, W), (N, C, L) or (N, C, D, H, W)
    size, stride, pad, dilation : tuples of ints
        One for each axis behind the channels; of `pad`, also (before, after). The border counts as -inf.
    activation : "relu", optional
        Applied to the result, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (N, C, OH, OW)

    Notes
    -----
    The maximum over a volume is that along its depth of the maxima over its images, and its mean likewise.
    """
    xp = array_namespace(x)
    if x.ndim == 5:
        across, along = stages(size, stride, pad, dilation)
        largest = max_pooling(merged_frames(x), **across)
        return pooled_volumes(max_pooling(pooled_columns(largest, x), **along, activation=activation), largest)
    images = as_images(x, stride, pad, dilation, _LOWEST)
    if images is not None:
        options = {"dilation": images.dilation, "activation": activation}
        return images.lines(max_pooling(images.x, images.window(size), images.stride, images.pad, **options))
    taps = _taps(x, size, stride, pad, dilation, _LOWEST)
    return activated(functools.reduce(xp.maximum, taps), activation)


@op
def max_pooling_with_taps(
    x: Array,
    size: Sizes,
    stride: Sizes,
    pad: Pads = (0, 0),
    *,
    dilation: Sizes = (1, 1),
    activation: str | None = None,
) -> tuple[Array, Array | None]:
    """Compute `max_pooling`, and the tap of each maximum where a kernel notes it, so that backward need not search.

    Returns
    -------
    y : array (N, C, OH, OW)
    taps : array (N, C, OH, OW) of integers, or None
        In the form of the kernel, for `max_pooling_backward` alone. CuPy's are uint8: the index of the maximum in its
        window, in row order, and 255 where no value takes the gradient, as in windows without a positive value before a
        relu; there are none for windows of more than 255 values. PyTorch's are int64, the index in the image. None where
        no kernel notes it.
    """
    images = as_images(x, stride, pad, dilation, _LOWEST)
    if images is not None:
        options = {"dilation": images.dilation, "activation": activation}
        y, taps = max_pooling_with_taps(images.x, images.window(size), images.stride, images.pad, **options)
        return images.lines(y), taps
    return max_pooling(x, size, stride, pad, dilation=dilation, activation=activation), None


@op
def max_pooling_backward(
    dy: Array,
    x: Array,
    y: Array,
    size: Sizes,
    stride: Sizes,
    pad: Pads = (0, 0),
    taps: Array | None = None,
    *,
    dilation: Sizes = (1, 1),
    activation: str | None = None,
) -> Array:
    """Give each window's `dy` to its maximum, to the first of equal ones in the image.

    Parameters
    ----------
    dy, y : array (N, C, OH, OW)
        `y` is the output of `max_pooling`.
    x : array (N, C, H, W)
    taps : array (N, C, OH, OW) of integers, optional
        As `max_pooling_with_taps` returns them. `x` and `y` determine them: they save a kernel time.
    activation : "relu", optional
        That of the forward pass: windows without a positive value get no gradient.

    Returns
    -------
    array (N, C, H, W)
    """
    xp = array_namespace(dy, x, y)
    if x.ndim == 5:
        across, along = stages(size, stride, pad, dilation)
        frames = merged_frames(x)
        largest = max_pooling(frames, **across)
        given = columns_of(dy), pooled_columns(largest, x), columns_of(y)
        d = xp.reshape(max_pooling_backward(*given, **along, activation=activation), largest.shape)
        return xp.reshape(max_pooling_backward(d, frames, largest, **across), x.shape)
    images = as_images(x, stride, pad, dilation, _LOWEST)
    if images is not None:
        windows = images.window(size), images.stride, images.pad, taps
        options = {"dilation": images.dilation, "activation": activation}
        return images.dx(max_pooling_backward(images.rows(dy), images.x, images.rows(y), *windows, **options))
    dy = before_activation(dy, y, activation)
    free = xp.ones_like(y, dtype=xp.bool)
    # of a window that holds -inf alone, the border takes nothing either
    image = xp.ones((1, 1, *x.shape[2:]), dtype=xp.bool, device=device(x))
    real = _taps(image, size, stride, pad, dilation, False)
    parts = []
    for tap, inside in zip(_taps(x, size, stride, pad, dilation, _LOWEST), real, strict=True):
        winner = (tap == y) & inside & free
        free = free & ~winner
        parts.append(xp.where(winner, dy, 0.0))
    return overlap_add(parts, x.shape[2:], size, stride, pad, dilation)


@op
@in_float32
def average_pooling(
    x: Array,
    size: Sizes,
    stride: Sizes,
    pad: Pads = (0, 0),
    *,
    dilation: Sizes = (1, 1),
    counted_pad: Pads | None = None,
) -> Array:
    """Take the mean of each window of `x` (N, C, H, W), giving (N, C, OH, OW); other ranks as in `max_pooling`.

    Parameters
    ----------
    x, size, stride, pad, dilation
        As in `max_pooling`; the border counts as 0.
    counted_pad : tuple of ints, optional
        The part of the border, next to the images, that is part of the mean: a window divides by the number of values that
        it has there and in the image. By default all of it is, and every window divides by its size.

    Returns
    -------
    array (N, C, OH, OW)
    """
    if counted_pad is not None:
        share = counted_share(x, size, stride, pad, dilation, counted_pad)
        return average_pooling(x, size, stride, pad, dilation=dilation) / share
    if x.ndim == 5:
        across, along = stages(size, stride, pad, dilation)
        means = average_pooling(merged_frames(x), **across)
        return pooled_volumes(average_pooling(pooled_columns(means, x), **along), means)
    images = as_images(x, stride, pad, dilation)
    if images is not None:
        windows = images.window(size), images.stride, images.pad
        return images.lines(average_pooling(images.x, *windows, dilation=images.dilation))
    taps = _taps(x, size, stride, pad, dilation, 0.0)
    return sum(taps[1:], taps[0]) / float(len(taps))


@op
@in_float32
def average_pooling_backward(
    dy: Array,
    x: Array,
    size: Sizes,
    stride: Sizes,
    pad: Pads = (0, 0),
    *,
    dilation: Sizes = (1, 1),
    counted_pad: Pads | None = None,
) -> Array:
    """Share each window's `dy` equally among its members that count."""
    xp = array_namespace(dy, x)
    if counted_pad is not None:
        share = counted_share(x, size, stride, pad, dilation, counted_pad)
        return average_pooling_backward(dy / share, x, size, stride, pad, dilation=dilation)
    if x.ndim == 5:
        across, along = stages(size, stride, pad, dilation)
        frames = merged_frames(x)
        means = average_pooling(frames, **across)
        d = average_pooling_backward(columns_of(dy), pooled_columns(means, x), **along)
        return xp.reshape(average_pooling_backward(xp.reshape(d, means.shape), frames, **across), x.shape)
    images = as_images(x, stride, pad, dilation)
    if images is not None:
        windows = images.window(size), images.stride, images.pad
        return images.dx(average_pooling_backward(images.rows(dy), images.x, *windows, dilation=images.dilation))
    count = math.prod(size)
    return overlap_add([dy / float(count)] * count, x.shape[2:], size, stride, pad, dilation)


@op
def global_average_pooling(x: Array) -> Array:
    """The mean of each channel of `x` (N, C, ...) over the whole image, giving (N, C)."""
    return rounded_to(x.dtype, array_namespace(x).mean(widened(x), axis=tuple(range(2, x.ndim))))


@op
def global_average_pooling_backward(dy: Array, x: Array) -> Array:
    """Share each channel's `dy` (N, C) equally among its pixels."""
    xp = array_namespace(dy, x)
    axes = (1,) * (x.ndim - 2)
    share = rounded_to(dy.dtype, xp.divide(widened(dy), float(math.prod(x.shape[2:]))))
    return xp.add(xp.zeros_like(x), xp.reshape(share, (*dy.shape, *axes)))


@op
def global_max_pooling(x: Array) -> Array:
    """The largest value of each channel of `x` (N, C, ...) over the whole image, giving (N, C)."""
    return array_namespace(x).max(x, axis=tuple(range(2, x.ndim)))


@op
def global_max_pooling_backward(dy: Array, x: Array) -> Array:
    """Give each channel's `dy` (N, C) to its maximum, to the first of equal ones in row order."""
    xp = array_namespace(dy, x)
    pixels = xp.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
    first = xp.argmax(pixels, axis=-1, keepdims=True)
    places = xp.arange(pixels.shape[-1], dtype=first.dtype, device=device(x))
    return xp.reshape(xp.where(places == first, xp.expand_dims(dy, axis=-1), 0.0), x.shape)


def counted_share(x: Array, size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes, counted_pad: Pads) -> Array:
    """Return the part of each window that counts, (1, 1, OH, OW): the mean over an image of ones; 1 where nothing does."""
    xp = array_namespace(x)
    image = xp.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=device(x))
    rest = tuple(
        (before - near[0], after - near[1])
        for (before, after), near in zip(map(sides, pad), map(sides, counted_pad), strict=True)
    )
    share = average_pooling(pad_images(image, counted_pad, 1.0), size, stride, rest, dilation=dilation)
    return xp.where(share > 0, share, xp.ones_like(share))
