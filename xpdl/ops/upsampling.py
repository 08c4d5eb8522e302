"""Images in a larger size: values repeated, or interpolated between."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, Namespace, array_namespace, device
from xpdl.ops.padding import Sizes
from xpdl.ops.precision import in_float32, summed


@op
def upsampling(x: Array, scale: Sizes) -> Array:
    """Repeat each value `scale` times along each axis behind the channels: (N, C, H, W) gives (N, C, H sh, W sw)."""
    xp = array_namespace(x)
    n, c, *length = x.shape
    apart, wide = [n, c], [n, c]
    for size, times in zip(length, scale, strict=True):
        apart += [size, 1]
        wide += [size, times]
    x = xp.broadcast_to(xp.reshape(x, tuple(apart)), tuple(wide))
    return xp.reshape(x, (n, c, *(size * times for size, times in zip(length, scale, strict=True))))


@op
def upsampling_backward(dy: Array, scale: Sizes) -> Array:
    """Add up what the copies of each value receive, giving (N, C, H, W) for `dy` (N, C, H sh, W sw)."""
    xp = array_namespace(dy)
    n, c, *length = dy.shape
    blocks = [part for size, times in zip(length, scale, strict=True) for part in (size // times, times)]
    return summed(xp, xp.reshape(dy, (n, c, *blocks)), tuple(range(3, 3 + 2 * len(scale), 2)))


@op
@in_float32
def linear_upsampling(x: Array, scale: Sizes) -> Array:
    """Interpolate between neighbours along each axis behind the channels: (N, C, H, W) gives (N, C, H sh, W sw).

    The value j of an axis lies at ``(j + 0.5) / scale - 0.5`` between those of `x`, or at the first or last of them: centres
    of pixels are places of values, as in PyTorch with ``align_corners=False``.
    """
    for axis, times in enumerate(scale, start=2):
        x = _along(x, _weights(x, x.shape[axis], times), axis)
    return x


@op
@in_float32
def linear_upsampling_backward(dy: Array, scale: Sizes) -> Array:
    """The adjoint of `linear_upsampling`, giving (N, C, H, W) for `dy` (N, C, H sh, W sw)."""
    xp = array_namespace(dy)
    for axis, times in enumerate(scale, start=2):
        dy = _along(dy, xp.matrix_transpose(_weights(dy, dy.shape[axis] // times, times)), axis)
    return dy


def _weights(x: Array, length: int, times: int) -> Array:
    """Weights (length * times, length) of the values beside `x` in each interpolated one."""
    xp = array_namespace(x)
    where = (_numbers(xp, x, length * times) + 0.5) / float(times) - 0.5
    where = xp.clip(where, 0.0, float(length - 1))
    apart = xp.abs(xp.expand_dims(where, axis=1) - xp.expand_dims(_numbers(xp, x, length), axis=0))
    return xp.clip(1.0 - apart, 0.0, 1.0)


def _numbers(xp: Namespace, x: Array, count: int) -> Array:
    return xp.arange(count, dtype=x.dtype, device=device(x))


def _along(x: Array, weights: Array, axis: int) -> Array:
    """The product of `weights` (OH, H) and the axis (H) of `x`."""
    xp = array_namespace(x)
    return xp.moveaxis(xp.matmul(xp.moveaxis(x, axis, -1), xp.matrix_transpose(weights)), -1, axis)
