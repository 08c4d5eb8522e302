"""Losses over a batch, each fused with the activation before it so that it is stable and its gradient simple.

Targets `t` of softmax losses are integer labels, of one rank less than the scores, or one-hot rows (or any weights over
classes) of the same shape. The kind is decided by rank and dtype, never guessed from sizes.
"""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, Namespace, array_namespace, device, dtype_name
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.activations import log_softmax, sigmoid
from xpdl.ops.checks import require_labels, require_scores, require_shape


def class_weights(x: Array, t: Array, owner: str) -> Array:
    """`t` as weights over the classes, one row per row of scores `x` (N, K): one-hot for labels."""
    array_namespace(t, owner=owner)
    xp = array_namespace(x, t, owner=owner)
    if t.ndim == x.ndim:
        require_shape(t, x.shape, owner, "one-hot t")
        return _in_dtype_of(x, t, owner)
    require_shape(t, x.shape[:-1], owner, f"t, integer labels or one-hot rows for scores of shape {tuple(x.shape)},")
    require_labels(t, x.shape[-1], owner)
    # the library's default integers: a label dtype such as uint8 need not hold every class
    classes = xp.arange(x.shape[-1], device=device(x))
    return xp.astype(xp.expand_dims(xp.astype(t, classes.dtype), axis=-1) == classes, x.dtype)


def targets(x: Array, t: Array, owner: str) -> Array:
    """`t` in the dtype of `x`, whose shape it must have: (N,) and (N, 1) would broadcast to (N, N)."""
    array_namespace(t, owner=owner)
    array_namespace(x, t, owner=owner)
    require_shape(t, x.shape, owner, "t")
    return _in_dtype_of(x, t, owner)


def _in_dtype_of(x: Array, t: Array, owner: str) -> Array:
    xp = array_namespace(x, t)
    if xp.isdtype(t.dtype, "complex floating"):
        raise DTypeError(f"{owner}: t must be real, got {dtype_name(t.dtype)}")
    return t if t.dtype == x.dtype else xp.astype(t, x.dtype)


def batch_rows(x: Array, owner: str) -> int:
    """The number of rows of a batch (N, ...), which must not be 0."""
    array_namespace(x, owner=owner)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ShapeError(f"{owner}: the mean over an empty batch is undefined, got shape {tuple(x.shape)}")
    return int(x.shape[0])


def _masked_sum(xp: Namespace, weights: Array, values: Array) -> Array:
    """``sum(weights * values)`` where a zero weight takes nothing from an infinite value."""
    return xp.sum(weights * xp.where(weights == 0, 0.0, values))


@op
def softmax_with_loss(x: Array, t: Array) -> tuple[Array, Array]:
    """Mean cross entropy of softmax(`x`) and `t` over the rows, and the probabilities.

    Parameters
    ----------
    x : array (N, K)
        Scores (logits).
    t : array (N,) of integers, or (N, K)

    Returns
    -------
    loss : array ()
        From log-softmax: it does not saturate, unlike the book's, which stops at 16.118.
    y : array (N, K)
        ``softmax(x)``.
    """
    owner = "SoftmaxWithLoss"
    rows = batch_rows(x, owner)
    require_scores(x, owner)
    weights = class_weights(x, t, owner)
    xp = array_namespace(x)
    log_y = log_softmax(x)
    return -_masked_sum(xp, weights, log_y) / rows, xp.exp(log_y)


@op
def softmax_with_loss_backward(y: Array, t: Array, dout: Array | float = 1.0) -> Array:
    """``dx = (y sum(t) - t) dout / N``; for one-hot rows and labels, sum(t) is 1."""
    xp = array_namespace(y, t)
    weights = class_weights(y, t, "SoftmaxWithLoss")
    total = y if t.ndim < y.ndim else y * xp.sum(weights, axis=-1, keepdims=True)
    return (total - weights) * (dout / y.shape[0])


@op
def sigmoid_with_loss(x: Array, t: Array) -> tuple[Array, Array]:
    """Binary cross entropy of sigmoid(`x`) and `t`, summed over a row, mean over the rows, and the probabilities.

    `t` has the shape of `x` and values in [0, 1].
    """
    owner = "SigmoidWithLoss"
    rows = batch_rows(x, owner)
    t = targets(x, t, owner)
    xp = array_namespace(x)
    # log(1 + exp(x)) - t x, without overflow for either sign of x
    size = xp.abs(x)
    wrong = xp.where(x > 0, 1.0 - t, t)
    return (_masked_sum(xp, wrong, size) + xp.sum(xp.log1p(xp.exp(-size)))) / rows, sigmoid(x)


@op
def sigmoid_with_loss_backward(y: Array, t: Array, dout: Array | float = 1.0) -> Array:
    """``dx = (y - t) dout / N``."""
    return (y - targets(y, t, "SigmoidWithLoss")) * (dout / y.shape[0])


@op
def identity_with_loss(x: Array, t: Array) -> Array:
    """Half the sum of squared errors of `x` and `t` over a row, mean over the rows."""
    owner = "IdentityWithLoss"
    rows = batch_rows(x, owner)
    error = x - targets(x, t, owner)
    return 0.5 * array_namespace(x).sum(error * error) / rows


@op
def identity_with_loss_backward(x: Array, t: Array, dout: Array | float = 1.0) -> Array:
    """``dx = (x - t) dout / N``."""
    return (x - targets(x, t, "IdentityWithLoss")) * (dout / x.shape[0])
