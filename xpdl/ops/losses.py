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


def target_rows(x: Array, t: Array, owner: str) -> Array:
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


def _weighted_rows(
    x: Array, t: Array, class_weights: Array | None, label_smoothing: float, owner: str
) -> tuple[Array, Array | int]:
    """The weight of each log-probability in the loss, for scores or probabilities `x`, and what their sum is divided by."""
    rows, total = target_rows(x, t, owner), x.shape[0]
    smooth = rows * (1.0 - label_smoothing) + label_smoothing / x.shape[-1] if label_smoothing else rows
    if class_weights is None:
        return smooth, total
    xp = array_namespace(x, class_weights, owner=owner)
    require_shape(class_weights, x.shape[-1:], owner, "class_weights, one for each class,")
    class_weights = _in_dtype_of(x, class_weights, owner)
    return smooth * class_weights, total if t.ndim == x.ndim else xp.sum(rows * class_weights)


@op
def softmax_with_loss(
    x: Array, t: Array, class_weights: Array | None = None, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Mean cross entropy of softmax(`x`) and `t` over the rows, and the probabilities.

    Parameters
    ----------
    x : array (N, K)
        Scores (logits).
    t : array (N,) of integers, or (N, K)
    class_weights : array (K,), optional
        Factors ``w`` of the classes' terms. The mean over labels is weighted by them, that over rows of `t` is not.
    label_smoothing : float
        ``s`` in [0, 1): targets, labels as one-hot rows, become ``q = (1 - s) t + s / K``.

    Returns
    -------
    loss : array ()
        ``-sum(w q log(y)) / D`` with D the sum of ``w[t]`` over labels, or N for rows of `t`. From log-softmax: it does
        not saturate, unlike the book's, which stops at 16.118.
    y : array (N, K)
        ``softmax(x)``.
    """
    owner = "SoftmaxWithLoss"
    batch_rows(x, owner)
    require_scores(x, owner)
    weights, total = _weighted_rows(x, t, class_weights, label_smoothing, owner)
    xp = array_namespace(x)
    log_y = log_softmax(x)
    return -_masked_sum(xp, weights, log_y) / total, xp.exp(log_y)


@op
def softmax_with_loss_backward(
    y: Array,
    t: Array,
    dout: Array | float = 1.0,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
) -> Array:
    """``dx = (y sum(w q) - w q) dout / D``, with the sum over a row; it is 1 for labels and one-hot rows without `w`."""
    xp = array_namespace(y, t)
    weights, total = _weighted_rows(y, t, class_weights, label_smoothing, "SoftmaxWithLoss")
    sums_to_1 = t.ndim < y.ndim and class_weights is None
    scaled = y if sums_to_1 else y * xp.sum(weights, axis=-1, keepdims=True)
    return (scaled - weights) * (dout / total)


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
