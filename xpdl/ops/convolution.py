"""Two-dimensional convolution (cross-correlation, as the field calls it) and its gradients."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened
from xpdl.ops.epilogues import activated, before_activation
from xpdl.ops.precision import summed
from xpdl.ops.windows import Pair, columns, output_sizes, overlap_add


@op
def convolution(
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str | None = None,
) -> Array:
    """Slide the filters over zero-padded images.

    Parameters
    ----------
    x : array (N, C, H, W)
    W : array (FN, C / groups, FH, FW)
        Filter k of group g sees the channels of group g only.
    b : array (FN,), optional
    stride, pad, dilation : pairs of ints
    groups : int
    activation : "relu", optional
        Applied to the result, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (N, FN, OH, OW)
        ``OH = (H + 2 pad - dilation (FH - 1) - 1) // stride + 1``, and OW likewise.
    """
    xp = array_namespace(x, W, b)
    filters, depth, *size = W.shape
    out = output_sizes(x.shape[2:], (size[0], size[1]), stride, pad, dilation, "convolution")
    cols = _grouped_columns(x, W, stride, pad, dilation, groups, out)
    y = xp.matmul(xp.reshape(W, (groups, filters // groups, depth * size[0] * size[1])), cols)
    y = xp.reshape(y, (-1, filters, *out))
    return activated(y if b is None else y + xp.reshape(b, (filters, 1, 1)), activation)


@op
def convolution_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    y: Array | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Compute the gradients of `convolution` for `dy` (N, FN, OH, OW).

    Parameters
    ----------
    y : array (N, FN, OH, OW), optional
        The output of the forward pass, which an `activation` needs.
    activation : "relu", optional
        That of the forward pass.
    need_dx, need_db : bool
        False in a first layer, whose input is data, and in a layer without a bias.

    Returns
    -------
    dx : array of the shape of `x`, or None without `need_dx`
    dW : array of the shape of `W`
    db : array (FN,), or None without `need_db`
    """
    xp = array_namespace(dy, x, W)
    dy = before_activation(dy, y, activation)
    n, channels, height, width = x.shape
    filters, depth, *size = W.shape
    kernel = (size[0], size[1])
    taps = size[0] * size[1]
    out = (dy.shape[2], dy.shape[3])
    dy_rows = xp.reshape(dy, (n, groups, filters // groups, out[0] * out[1]))

    cols = _grouped_columns(x, W, stride, pad, dilation, groups, out)
    # a sum over places and images, of which none is rounded on the way
    dW = xp.sum(xp.matmul(widened(dy_rows), xp.matrix_transpose(widened(cols))), axis=0)
    dW = xp.reshape(dW if dW.dtype == dy.dtype else rounded_to(W.dtype, dW), W.shape)
    db = summed(xp, dy, (0, 2, 3)) if need_db else None
    if not need_dx:
        return None, dW, db

    W_rows = xp.reshape(W, (groups, filters // groups, depth * taps))
    dcols = xp.matmul(xp.matrix_transpose(W_rows), dy_rows)
    dcols = xp.reshape(dcols, (n, channels, taps, *out))
    parts = [dcols[:, :, tap, :, :] for tap in range(taps)]
    return overlap_add(parts, (height, width), kernel, stride, pad, dilation), dW, db


def _grouped_columns(x: Array, W: Array, stride: Pair, pad: Pair, dilation: Pair, groups: int, out: Pair) -> Array:
    """(N, groups, C / groups * FH * FW, OH * OW)."""
    xp = array_namespace(x)
    depth, fh, fw = W.shape[1:]
    cols = columns(x, (fh, fw), stride, pad, dilation, out)
    return xp.reshape(cols, (-1, groups, depth * fh * fw, out[0] * out[1]))
