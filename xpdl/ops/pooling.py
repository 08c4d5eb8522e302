"""Maximum and average pooling over windows of images."""

from __future__ import annotations

import functools

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device, rounded_to, widened
from xpdl.ops.epilogues import activated, before_activation
from xpdl.ops.precision import in_float32
from xpdl.ops.windows import Pair, output_sizes, overlap_add, pad_images, shifted

_ONE = (1, 1)


def _taps(x: Array, size: Pair, stride: Pair, pad: Pair, value: float) -> list[Array]:
    out = output_sizes(x.shape[2:], size, stride, pad, _ONE, "pooling")
    return shifted(pad_images(x, pad, value), size, stride, _ONE, out)


@op
def max_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), *, activation: str | None = None) -> Array:
    """Take the largest value of each window, or relu of it, which is also the largest of relu's values.

    Parameters
    ----------
    x : array (N, C, H, W)
    size, stride, pad : pairs of ints
        The border counts as -inf.
    activation : "relu", optional
        Applied to the result, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (N, C, OH, OW)
    """
    xp = array_namespace(x)
    return activated(functools.reduce(xp.maximum, _taps(x, size, stride, pad, -float("inf"))), activation)


@op
def max_pooling_with_taps(
    x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), *, activation: str | None = None
) -> tuple[Array, Array | None]:
    """Compute `max_pooling`, and the tap of each maximum where a kernel notes it, so that backward need not search.

    Returns
    -------
    y : array (N, C, OH, OW)
    taps : array (N, C, OH, OW) of integers, or None
        In the form of the kernel. CuPy's are uint8: the index of the maximum in its window, in row order, and 255 where no
        value takes the gradient, as in windows without a positive value before a relu; there are none for windows of more
        than 255 values. PyTorch's are int64, the index in the image. None where no kernel notes it.
    """
    return max_pooling(x, size, stride, pad, activation=activation), None


@op
def max_pooling_backward(
    dy: Array,
    x: Array,
    y: Array,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    taps: Array | None = None,
    *,
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
    dy = before_activation(dy, y, activation)
    free = xp.ones_like(y, dtype=xp.bool)
    # of a window that holds -inf alone, the border takes nothing either
    image = xp.ones((1, 1, *x.shape[2:]), dtype=xp.bool, device=device(x))
    real = _taps(image, size, stride, pad, False)
    parts = []
    for tap, inside in zip(_taps(x, size, stride, pad, -float("inf")), real, strict=True):
        winner = (tap == y) & inside & free
        free = free & ~winner
        parts.append(xp.where(winner, dy, 0.0))
    return overlap_add(parts, x.shape[2:], size, stride, pad, _ONE)


@op
@in_float32
def average_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """The mean of each window of `x` (N, C, H, W), giving (N, C, OH, OW); the zeros of the border count."""
    taps = _taps(x, size, stride, pad, 0.0)
    return sum(taps[1:], taps[0]) / float(len(taps))


@op
@in_float32
def average_pooling_backward(dy: Array, x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """Share each window's `dy` equally among its members."""
    count = size[0] * size[1]
    return overlap_add([dy / float(count)] * count, x.shape[2:], size, stride, pad, _ONE)


@op
def global_average_pooling(x: Array) -> Array:
    """The mean of each channel of `x` (N, C, H, W) over the whole image, giving (N, C)."""
    return rounded_to(x.dtype, array_namespace(x).mean(widened(x), axis=(2, 3)))


@op
def global_average_pooling_backward(dy: Array, x: Array) -> Array:
    """Share each channel's `dy` (N, C) equally among its pixels."""
    xp = array_namespace(dy, x)
    share = rounded_to(dy.dtype, xp.divide(widened(dy), float(x.shape[2] * x.shape[3])))
    return xp.add(xp.zeros_like(x), xp.reshape(share, (*dy.shape, 1, 1)))


@op
def global_max_pooling(x: Array) -> Array:
    """The largest value of each channel of `x` (N, C, H, W) over the whole image, giving (N, C)."""
    return array_namespace(x).max(x, axis=(2, 3))


@op
def global_max_pooling_backward(dy: Array, x: Array) -> Array:
    """Give each channel's `dy` (N, C) to its maximum, to the first of equal ones in row order."""
    xp = array_namespace(dy, x)
    pixels = xp.reshape(x, (*x.shape[:2], x.shape[2] * x.shape[3]))
    first = xp.argmax(pixels, axis=-1, keepdims=True)
    places = xp.arange(pixels.shape[-1], dtype=first.dtype, device=device(x))
    return xp.reshape(xp.where(places == first, xp.expand_dims(dy, axis=-1), 0.0), x.shape)
