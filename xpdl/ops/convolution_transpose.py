"""Transposed convolution: forward is the gradient of a convolution's images, and backward that convolution."""

from __future__ import annotations

from typing import Any

from xpdl.backends.arrays import Pads
from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.ops.convolution import convolution, convolution_backward, empty_of
from xpdl.ops.padding import Sizes, sides
from xpdl.ops.precision import summed


def transposed_sizes(
    length: Sizes, size: Sizes, stride: Sizes, pad: Pads, output_pad: Sizes, dilation: Sizes, owner: str
) -> Sizes:
    """Return ``(H - 1) stride + dilation (FH - 1) + 1 - 2 pad + output_pad`` along each axis.

    Raises
    ------
    ShapeError
        If nothing would be left.
    """
    axes = zip(length, size, stride, map(sides, pad), output_pad, dilation, strict=True)
    out = tuple((n - 1) * step + gap * (taps - 1) + 1 - sum(border) + more for n, taps, step, border, more, gap in axes)
    if min(out) < 1:
        raise ShapeError(f"{owner}: an input of {length} gives an output of {out}; use less pad, or a larger filter")
    return out


@op
def convolution_transpose(
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Sizes = (1, 1),
    pad: Pads = (0, 0),
    output_pad: Sizes = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
) -> Array:
    """Add filters, weighted by the values of `x`, in steps of `stride`: the adjoint of `convolution` with that `W`.

    Parameters
    ----------
    x : array (N, C, H, W), (N, C, L) or (N, C, D, H, W)
    W : array (C, FN / groups, FH, FW)
        Of the convolution from FN to C channels.
    b : array (FN,), optional
    stride, pad, dilation
        As in `convolution`, of the convolution: `pad` is what is taken from each side.
    output_pad : tuple of ints
        Rows and columns added at the end, less than `stride`: of inputs whose number of windows is rounded down, a
        convolution makes one of several sizes.
    groups : int

    Returns
    -------
    array (N, FN, OH, OW)
        ``OH = (H - 1) stride + dilation (FH - 1) + 1 - 2 pad + output_pad``.
    """
    xp = array_namespace(x, W, b)
    out = transposed_sizes(x.shape[2:], W.shape[2:], stride, pad, output_pad, dilation, "convolution_transpose")
    filters = W.shape[1] * groups
    images = empty_of(x, (x.shape[0], filters, *out))
    options: dict[str, Any] = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    y, _, _ = convolution_backward(x, images, W, **options, need_dW=False, need_db=False)
    return y if b is None else y + xp.reshape(b, (filters, *(1,) * len(out)))


@op
def convolution_transpose_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    stride: Sizes = (1, 1),
    pad: Pads = (0, 0),
    output_pad: Sizes = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Compute the gradients of `convolution_transpose` for `dy` (N, FN, OH, OW).

    Parameters
    ----------
    need_dx, need_db : bool
        False in a first layer, whose input is data, and in a layer without a bias.

    Returns
    -------
    dx : array of the shape of `x`, or None without `need_dx`
    dW : array of the shape of `W`
    db : array (FN,), or None without `need_db`
    """
    xp = array_namespace(dy, x, W)
    options: dict[str, Any] = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    _, dW, _ = convolution_backward(x, dy, W, **options, need_dx=False, need_db=False)
    dx = convolution(dy, W, **options) if need_dx else None
    return dx, dW, summed(xp, dy, (0, *range(2, dy.ndim))) if need_db else None
