"""Maximum and average pooling over windows of images."""

from __future__ import annotations

import functools

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.ops.activations import relu, relu_backward
from xpdl.ops.precision import in_float32
from xpdl.ops.windows import Pair, output_sizes, overlap_add, pad_images, shifted

_ONE = (1, 1)


def _taps(x: Array, size: Pair, stride: Pair, pad: Pair, value: float) -> list[Array]:
    out = output_sizes(x.shape[2:], size, stride, pad, _ONE, "pooling")
    return shifted(pad_images(x, pad, value), size, stride, _ONE, out)


@op
def max_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """The largest value of each window of `x` (N, C, H, W), giving (N, C, OH, OW); the border counts as -inf."""
    xp = array_namespace(x)
    return functools.reduce(xp.maximum, _taps(x, size, stride, pad, -float("inf")))


@op
def max_pooling_with_taps(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> tuple[Array, Array | None]:
    """Compute `max_pooling`, and the tap of each maximum where a kernel notes it: its backward pass need not search then.

    Taps are uint8 (N, C, OH, OW): the number of the maximum in its window, in row order, and 255 where no value takes the
    gradient. They are None where nobody notes them, and for windows of more than 255 values.
    """
    return max_pooling(x, size, stride, pad), None


@op
def max_pooling_backward(
    dy: Array, x: Array, y: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), taps: Array | None = None
) -> Array:
    """Give each window's `dy` to its maximum, to the first of equal ones in the image, for ``y = max_pooling(x, ...)``.

    `taps`, as `max_pooling_with_taps` gives them, say nothing that `x` and `y` do not say: they save a kernel time.
    """
    xp = array_namespace(dy, x, y)
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
def rectified_max_pooling(x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)) -> Array:
    """`relu` of `max_pooling`, which is `max_pooling` of `relu` and may be computed in one pass."""
    return relu(max_pooling(x, size, stride, pad))


@op
def rectified_max_pooling_with_taps(
    x: Array, size: Pair, stride: Pair, pad: Pair = (0, 0)
) -> tuple[Array, Array | None]:
    """Compute `rectified_max_pooling`, and taps as `max_pooling_with_taps`: 255 in windows without positive values."""
    return rectified_max_pooling(x, size, stride, pad), None


@op
def rectified_max_pooling_backward(
    dy: Array, x: Array, y: Array, size: Pair, stride: Pair, pad: Pair = (0, 0), taps: Array | None = None
) -> Array:
    """The backward pass of both for ``y = rectified_max_pooling(x, ...)``: windows without positive values get none."""
    return max_pooling_backward(relu_backward(dy, y), x, y, size, stride, pad, taps)


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
