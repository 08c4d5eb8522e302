"""Losses over a batch, each fused with the activation before it so that it is stable and its gradient simple.

Targets `t` of softmax losses are integer labels, of one rank less than the scores, or one-hot rows (or any weights over
classes) of the same shape. The kind is decided by rank and dtype, never guessed from sizes.

Outputs in half precision are computed with in float32. The loss stays in float32, which holds sums over large batches;
probabilities and gradients come in the dtype of the outputs.
"""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import (
    Array,
    Namespace,
    array_namespace,
    device,
    dtype_name,
    on_its_device,
    rounded_to,
    widened,
)
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.activations import log_softmax, sigmoid
from xpdl.ops.checks import require_labels, require_rank, require_scores, require_shape
from xpdl.ops.precision import in_float32


@on_its_device
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


def total_weight(
    x: Array, t: Array, class_weights: Array | None = None, sample_weight: Array | None = None, owner: str = ""
) -> Array | int:
    """The divisor D of a mean loss: the weights of the rows of the batch `x` added up, and N where none has one.

    Labels `t` are weighted by `class_weights` as well, which rows of targets are not.
    """
    total = batch_rows(x, owner)
    if sample_weight is None and (class_weights is None or t.ndim == x.ndim):
        return total
    return _added_weights(x, t, class_weights, sample_weight, owner)


@on_its_device
def _added_weights(x: Array, t: Array, class_weights: Array | None, sample_weight: Array | None, owner: str) -> Array:
    xp, x = array_namespace(x, sample_weight, owner=owner), widened(x)
    of_rows = xp.ones(x.shape[:1], dtype=x.dtype, device=device(x))
    if sample_weight is not None:
        of_rows = _row_weights(x, sample_weight, owner)
    if class_weights is not None and t.ndim < x.ndim:
        of_rows = of_rows * xp.sum(target_rows(x, t, owner) * _of_classes(x, class_weights, owner), axis=-1)
    return xp.sum(of_rows)


def _of_classes(x: Array, class_weights: Array, owner: str) -> Array:
    array_namespace(x, class_weights, owner=owner)
    require_shape(class_weights, x.shape[-1:], owner, "class_weights, one for each class,")
    return _in_dtype_of(x, class_weights, owner)


def _row_weights(x: Array, sample_weight: Array, owner: str) -> Array:
    array_namespace(x, sample_weight, owner=owner)
    require_shape(sample_weight, x.shape[:1], owner, "sample_weight, one for each row,")
    return _in_dtype_of(x, sample_weight, owner)


def by_row(x: Array, sample_weight: Array | None, owner: str) -> Array | float:
    """`sample_weight` (N,) shaped to be multiplied with values like `x`, or 1."""
    if sample_weight is None:
        return 1.0
    weights = _row_weights(x, sample_weight, owner)
    return array_namespace(x).reshape(weights, (-1, *(1,) * (x.ndim - 1)))


def counted(x: Array, sample_weight: Array | None, owner: str) -> Array:
    """`x` (N, ...) with 0 in rows of weight 0, so that NaN or infinite values there reach neither a loss nor a gradient."""
    if sample_weight is None:
        return x
    return array_namespace(x).where(by_row(x, sample_weight, owner) == 0, 0.0, x)


def divided(value: Array | float, total: Array | int) -> Array | float:
    """``value / total``, and 0 where nothing has a weight."""
    if isinstance(total, int):
        return value / total
    xp = array_namespace(total)
    return xp.where(total == 0, 0.0, value / xp.where(total == 0, 1.0, total))


def _weighted_rows(
    x: Array,
    t: Array,
    class_weights: Array | None,
    label_smoothing: float,
    sample_weight: Array | None,
    owner: str,
) -> Array:
    """The weight of each log-probability in the sum of the losses, for scores or probabilities `x`."""
    require_rank(x, 2, owner, "scores (N, K), without further axes such as those of sequences")
    rows = counted(target_rows(x, t, owner), sample_weight, owner)
    smooth = rows * (1.0 - label_smoothing) + label_smoothing / x.shape[-1] if label_smoothing else rows
    if class_weights is not None:
        smooth = smooth * _of_classes(x, class_weights, owner)
    return smooth if sample_weight is None else smooth * by_row(x, sample_weight, owner)


@op
def softmax_with_loss(
    x: Array,
    t: Array,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Array | None = None,
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
    sample_weight : array (N,), optional
        Factors ``r`` of the rows, by which the mean is weighted.

    Returns
    -------
    loss : array ()
        ``-sum(r w q log(y)) / D`` with D the sum of ``r w[t]`` over labels, or of ``r`` over rows of `t`; 0 where D is 0.
        From log-softmax: it does not saturate, unlike the book's, which stops at 16.118. Float32 for half precision.
    y : array (N, K)
        ``softmax(x)``.
    """
    owner = "SoftmaxWithLoss"
    batch_rows(x, owner)
    require_scores(x, owner)
    dtype, x = x.dtype, widened(x)
    weights = _weighted_rows(x, t, class_weights, label_smoothing, sample_weight, owner)
    xp = array_namespace(x)
    log_y = log_softmax(x)
    total = total_weight(x, t, class_weights, sample_weight, owner)
    return divided(-_masked_sum(xp, weights, log_y), total), rounded_to(dtype, xp.exp(log_y))


@op
@in_float32
def softmax_with_loss_backward(
    y: Array,
    t: Array,
    dout: Array | float = 1.0,
    class_weights: Array | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Array | None = None,
) -> Array:
    """``dx = r (y sum(w q) - w q) dout / D``, with the sum over a row; it is 1 for labels and one-hot rows without `w`."""
    owner = "SoftmaxWithLoss"
    xp = array_namespace(y, t)
    weights = _weighted_rows(y, t, class_weights, label_smoothing, sample_weight, owner)
    sums_to_1 = t.ndim < y.ndim and class_weights is None and sample_weight is None
    scaled = y if sums_to_1 else _scaled_rows(xp, y, xp.sum(weights, axis=-1, keepdims=True))
    return (scaled - weights) * divided(dout, total_weight(y, t, class_weights, sample_weight, owner))


def _scaled_rows(xp: Namespace, y: Array, factors: Array) -> Array:
    """``y * factors``, where a zero factor (N, 1) takes nothing from a row of NaN."""
    return xp.where(factors == 0, 0.0, y * factors)


@op
def sigmoid_with_loss(x: Array, t: Array, sample_weight: Array | None = None) -> tuple[Array, Array]:
    """Binary cross entropy of sigmoid(`x`) and `t`, summed over a row, mean over the rows, and the probabilities.

    `t` has the shape of `x` and values in [0, 1]; the mean is weighted by `sample_weight` (N,), where that is given.
    """
    owner = "SigmoidWithLoss"
    batch_rows(x, owner)
    dtype, x = x.dtype, widened(x)
    t = counted(targets(x, t, owner), sample_weight, owner)
    xp, scores = array_namespace(x), counted(x, sample_weight, owner)
    # log(1 + exp(x)) - t x, without overflow for either sign of x
    size, rows = xp.abs(scores), by_row(x, sample_weight, owner)
    wrong = xp.where(scores > 0, 1.0 - t, t) * rows
    loss = _masked_sum(xp, wrong, size) + xp.sum(xp.log1p(xp.exp(-size)) * rows)
    return divided(loss, total_weight(x, t, None, sample_weight, owner)), rounded_to(dtype, sigmoid(x))


@op
@in_float32
def sigmoid_with_loss_backward(
    y: Array, t: Array, dout: Array | float = 1.0, sample_weight: Array | None = None
) -> Array:
    """``dx = (y - t) dout / N``, or ``r (y - t) dout / sum(r)`` with `sample_weight` r."""
    owner = "SigmoidWithLoss"
    error = _error(y, t, sample_weight, owner)
    return _weighted(error, sample_weight, owner) * divided(dout, total_weight(y, t, None, sample_weight, owner))


@op
def identity_with_loss(x: Array, t: Array, sample_weight: Array | None = None) -> Array:
    """Half the sum of squared errors of `x` and `t` over a row, mean over the rows.

    The mean is weighted by `sample_weight` (N,), where that is given.
    """
    owner = "IdentityWithLoss"
    batch_rows(x, owner)
    x = widened(x)
    error = _error(x, t, sample_weight, owner)
    loss = array_namespace(x).sum(error * _weighted(error, sample_weight, owner))
    return 0.5 * divided(loss, total_weight(x, t, None, sample_weight, owner))


@op
@in_float32
def identity_with_loss_backward(
    x: Array, t: Array, dout: Array | float = 1.0, sample_weight: Array | None = None
) -> Array:
    """``dx = (x - t) dout / N``, or ``r (x - t) dout / sum(r)`` with `sample_weight` r."""
    owner = "IdentityWithLoss"
    error = _error(x, t, sample_weight, owner)
    return _weighted(error, sample_weight, owner) * divided(dout, total_weight(x, t, None, sample_weight, owner))


def _error(x: Array, t: Array, sample_weight: Array | None, owner: str) -> Array:
    """``x - t``, and 0 in rows of weight 0."""
    return counted(x, sample_weight, owner) - counted(targets(x, t, owner), sample_weight, owner)


def _weighted(error: Array, sample_weight: Array | None, owner: str) -> Array:
    return error if sample_weight is None else error * by_row(error, sample_weight, owner)
