"""Convolution (cross-correlation, as the field calls it) of images, signals and volumes, and its gradients."""

from __future__ import annotations

from typing import Any

from xpdl.backends.arrays import Pads
from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, device, rounded_to, widened
from xpdl.ops.epilogues import activated, before_activation
from xpdl.ops.padding import Sizes
from xpdl.ops.precision import summed
from xpdl.ops.ranks import as_images
from xpdl.ops.volumes import frames, frames_backward, images_of, volumes
from xpdl.ops.windows import columns, output_sizes, overlap_add


@op
def convolution(
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Sizes = (1, 1),
    pad: Pads = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
    activation: str | None = None,
) -> Array:
    """Slide the filters over zero-padded images (N, C, H, W), signals (N, C, L) or volumes (N, C, D, H, W).

    Parameters
    ----------
    x : array (N, C, H, W)
    W : array (FN, C / groups, FH, FW)
        Filter k of group g sees the channels of group g only.
    b : array (FN,), optional
    stride, pad, dilation : tuples of ints
        One for each axis behind the channels; of `pad`, also (before, after).
    groups : int
    activation : "relu", optional
        Applied to the result, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (N, FN, OH, OW)
        ``OH = (H + 2 pad - dilation (FH - 1) - 1) // stride + 1``, and OW likewise.

    Notes
    -----
    A signal is an image of one row. A volume is a sequence of images: those that a filter sees at once are more channels.
    """
    xp = array_namespace(x, W, b)
    if x.ndim == 5:
        return _of_volumes(x, W, b, stride, pad, dilation, groups, activation)
    images = as_images(x, stride, pad, dilation)
    if images is not None:
        return images.lines(
            convolution(images.x, images.rows(W), b, **images.options, groups=groups, activation=activation)
        )
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
    stride: Sizes = (1, 1),
    pad: Pads = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
    y: Array | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_dW: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of `convolution` for `dy` (N, FN, OH, OW).

    Parameters
    ----------
    y : array (N, FN, OH, OW), optional
        The output of the forward pass, which an `activation` needs.
    activation : "relu", optional
        That of the forward pass.
    need_dx, need_dW, need_db : bool
        `need_dx` is False in a first layer, whose input is data, and `need_db` in a layer without a bias. Without `need_dW`,
        of `x` the shape alone counts: so does `convolution_transpose` go forward.

    Returns
    -------
    dx : array of the shape of `x`, or None without `need_dx`
    dW : array of the shape of `W`, or None without `need_dW`
    db : array (FN,), or None without `need_db`
    """
    xp = array_namespace(dy, x, W)
    dy = before_activation(dy, y, activation)
    if x.ndim == 5:
        return _of_volumes_backward(dy, x, W, stride, pad, dilation, groups, (need_dx, need_dW, need_db))
    images = as_images(x, stride, pad, dilation)
    if images is not None:
        options = {**images.options, "groups": groups}
        given = images.rows(dy), images.x, images.rows(W)
        dx, dW, db = convolution_backward(*given, **options, need_dx=need_dx, need_dW=need_dW, need_db=need_db)
        return (None if dx is None else images.dx(dx)), (None if dW is None else images.lines(dW)), db
    n, channels, height, width = x.shape
    filters, depth, *size = W.shape
    kernel = (size[0], size[1])
    taps = size[0] * size[1]
    out = (dy.shape[2], dy.shape[3])
    dy_rows = xp.reshape(dy, (n, groups, filters // groups, out[0] * out[1]))

    dW = None
    if need_dW:
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


def _grouped_columns(x: Array, W: Array, stride: Sizes, pad: Pads, dilation: Sizes, groups: int, out: Sizes) -> Array:
    """(N, groups, C / groups * FH * FW, OH * OW)."""
    xp = array_namespace(x)
    depth, fh, fw = W.shape[1:]
    cols = columns(x, (fh, fw), stride, pad, dilation, out)
    return xp.reshape(cols, (-1, groups, depth * fh * fw, out[0] * out[1]))


def _of_volumes(
    x: Array, W: Array, b: Array | None, stride: Sizes, pad: Pads, dilation: Sizes, groups: int, activation: str | None
) -> Array:
    count, *_ = output_sizes(x.shape[2:], W.shape[2:], stride, pad, dilation, "convolution")
    images = frames(x, W.shape[2], stride[0], pad[0], dilation[0], count)
    options: dict[str, Any] = {"stride": stride[1:], "pad": pad[1:], "dilation": dilation[1:], "groups": groups}
    return volumes(convolution(images, _of_frames(W), b, **options, activation=activation), count)


def _of_volumes_backward(
    dy: Array,
    x: Array,
    W: Array,
    stride: Sizes,
    pad: Pads,
    dilation: Sizes,
    groups: int,
    needed: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:
    need_dx, need_dW, need_db = needed
    along = stride[0], pad[0], dilation[0], dy.shape[2]
    shape = dy.shape[0] * dy.shape[2], x.shape[1] * W.shape[2], *x.shape[3:]
    images = frames(x, W.shape[2], *along) if need_dW else empty_of(x, shape)
    options: dict[str, Any] = {"stride": stride[1:], "pad": pad[1:], "dilation": dilation[1:], "groups": groups}
    given = images_of(dy), images, _of_frames(W)
    dx, dW, db = convolution_backward(*given, **options, need_dx=need_dx, need_dW=need_dW, need_db=need_db)
    dx = None if dx is None else frames_backward(dx, x.shape[2], W.shape[2], *along)
    return dx, (None if dW is None else array_namespace(dW).reshape(dW, W.shape)), db


def empty_of(x: Array, shape: Sizes) -> Array:
    """Return an array of that shape beside `x`, of which nothing is read."""
    return array_namespace(x).empty(shape, dtype=x.dtype, device=device(x))


def _of_frames(W: Array) -> Array:
    """Filters (FN, C, FD, FH, FW) as (FN, C * FD, FH, FW)."""
    filters, depth, taps, *size = W.shape
    return array_namespace(W).reshape(W, (filters, depth * taps, *size))
