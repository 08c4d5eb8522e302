"""The book's functions, on arrays of any library.

A Python number is taken as an array of the backend in use; integers become floats where the result is no integer. Losses of
arrays in half precision are float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xpdl.backends import Backend, asarray, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array, on_device_of, rounded_to, widened
from xpdl.backends.readable import is_readable
from xpdl.errors import ShapeError
from xpdl.gradients import gradient_descent, numerical_diff, numerical_gradient
from xpdl.ops import activations
from xpdl.ops import losses as loss_ops
from xpdl.ops.checks import (
    as_floating,
    class_weights_of,
    label_rows,
    number,
    require_labels_before_compiling,
    require_scores,
    require_shape,
)
from xpdl.ops.windows import col2im, conv_output_size, im2col

__all__ = [
    "col2im",
    "conv_output_size",
    "cross_entropy_error",
    "gradient_descent",
    "identity_function",
    "im2col",
    "log_softmax",
    "mean_squared_error",
    "numerical_diff",
    "numerical_gradient",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_cross_entropy",
    "step_function",
    "sum_squared_error",
    "tanh",
]


def _floating(x: Any, owner: str) -> Array:
    number = isinstance(x, (int, float)) and not isinstance(x, bool) and not hasattr(x, "dtype")
    return as_floating(asarray(float(x)) if number else x, owner)


def identity_function(x: Any) -> Any:
    """`x` itself: the output activation of regression (ch. 3.5)."""
    return x


def step_function(x: Any) -> Array:
    """1 where ``x > 0`` and 0 elsewhere, as integers of the shape of `x` (ch. 3.2)."""
    x = _floating(x, "step_function")
    xp = array_namespace(x)
    return xp.astype(xp.greater(x, 0), xp.asarray(0).dtype)  # the library's own integers: JAX has no int64 by default


def sigmoid(x: Any) -> Array:
    """``1 / (1 + exp(-x))``, without overflow for any `x` (ch. 3.2)."""
    return activations.sigmoid(_floating(x, "sigmoid"))


def sigmoid_grad(x: Any) -> Array:
    """Derivative of `sigmoid` at `x`: ``sigmoid(x) (1 - sigmoid(x))``."""
    x = _floating(x, "sigmoid_grad")
    xp = array_namespace(x)
    with on_device_of(x):
        # in which nothing cancels, where 1 - sigmoid(x) is a difference of nearly equal numbers
        e = xp.exp(-xp.abs(widened(x)))
        return rounded_to(x.dtype, e / ((1.0 + e) * (1.0 + e)))


def relu(x: Any) -> Array:
    """``max(x, 0)`` (ch. 3.2); integers stay integers."""
    x = asarray(x) if isinstance(x, (int, float)) and not hasattr(x, "dtype") else x
    xp = array_namespace(x, owner="relu")
    if xp.isdtype(x.dtype, "integral"):
        return xp.maximum(x, xp.zeros_like(x))
    return activations.relu(as_floating(x, "relu"))


def relu_grad(x: Any) -> Array:
    """Derivative of `relu` at `x`: 1 where ``x > 0``, else 0, in the dtype of `x`."""
    x = _floating(x, "relu_grad")
    xp = array_namespace(x)
    return xp.astype(xp.greater(x, 0), x.dtype)


def tanh(x: Any) -> Array:
    """Hyperbolic tangent."""
    return activations.tanh(_floating(x, "tanh"))


def softmax(x: Any) -> Array:
    """``exp(x) / sum(exp(x))`` over the last axis, without overflow (ch. 3.5)."""
    return activations.softmax(_scores(x, "softmax"))


def log_softmax(x: Any) -> Array:
    """Logarithm of `softmax`, exact where that underflows to 0."""
    return activations.log_softmax(_scores(x, "log_softmax"))


def _scores(x: Any, owner: str) -> Array:
    x = _floating(x, owner)
    require_scores(x, owner)
    return x


def sum_squared_error(y: Array, t: Array) -> Array:
    """``0.5 * sum((y - t)^2)`` over everything (ch. 4.2).

    Raises
    ------
    ShapeError
        If `y` and `t` differ in shape.
    """
    return _half_squares(y, t, "sum_squared_error")


def _half_squares(y: Array, t: Array, owner: str) -> Array:
    y, t = widened(_floating(y, owner)), widened(_floating(t, owner))
    xp = array_namespace(y, t, owner=owner)
    require_shape(t, y.shape, owner, "t")
    with on_device_of(y):
        return xp.multiply(xp.sum((y - t) ** 2), 0.5)


def mean_squared_error(y: Array, t: Array) -> Array:
    """The book's name, in its early printings, for `sum_squared_error`; nothing is divided by the number of elements."""
    return _half_squares(y, t, "mean_squared_error")


def cross_entropy_error(y: Array, t: Array) -> Array:
    """Mean over the rows of ``-sum(t log(y + 1e-7))`` for probabilities `y` (ch. 4.2).

    Parameters
    ----------
    y : array (N, K) or (K,)
        Probabilities of one sample or of a batch.
    t : array
        One-hot, of the shape of `y`, or integer labels of one rank less; also a column (N, 1) of them, where there are
        several classes. The kind is read from the rank and the dtype.

    Notes
    -----
    The book's 1e-7 is kept, so the loss saturates at 16.118; `softmax_cross_entropy` starts from scores and does not.

    Raises
    ------
    ShapeError, DTypeError, LabelError
        If `t` fits neither form, labels are no integers, or lie outside the K classes.
    """
    owner = "cross_entropy_error"
    y, t = _batch(widened(_floating(y, owner)), t, owner)
    xp = array_namespace(y, t, owner=owner)
    weights = loss_ops.target_rows(y, t, owner)
    with on_device_of(y):
        loss = -xp.sum(weights * xp.log(y + 1e-7)) / loss_ops.batch_rows(y, owner)
        return xp.astype(loss, y.dtype, copy=False)


def softmax_cross_entropy(
    x: Array, t: Array, *, label_smoothing: float = 0.0, class_weights: Iterable[float] | Array | None = None
) -> Array:
    """Mean over the rows of the cross entropy of ``softmax(x)`` and `t`, from the scores `x`, stable for any of them.

    Parameters
    ----------
    x, t : array
        As in `cross_entropy_error`, with scores for probabilities.
    label_smoothing : float
    class_weights : sequence of numbers, or array (K,) of the library of `x`, optional
        As in `xpdl.layers.SoftmaxWithLoss`: what ``torch.nn.CrossEntropyLoss`` computes.

    Returns
    -------
    array ()

    Raises
    ------
    ShapeError, DTypeError, LabelError
        As `cross_entropy_error`, and if there is not one weight for each class.
    ValueError
        If `label_smoothing` is not in [0, 1), or weights on the host are negative or all 0.

    Examples
    --------
    >>> x, t = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    >>> float(softmax_cross_entropy(x, t).round(4)), float(softmax_cross_entropy(x, t, label_smoothing=0.1).round(4))
    (0.7201, 0.7451)
    """
    owner = "softmax_cross_entropy"
    smoothing = number(label_smoothing, "label_smoothing", owner, "in [0, 1)")
    x, t = _batch(_scores(x, owner), t, owner)
    loss_ops.batch_rows(x, owner)
    require_labels_before_compiling(x, t, owner)
    if is_array(class_weights):
        if is_readable(class_weights):
            class_weights_of(asnumpy(class_weights).tolist(), owner)
    elif class_weights is not None:
        class_weights = Backend.of(x).asarray(class_weights_of(class_weights, owner))
    return loss_ops.softmax_with_loss(x, t, class_weights, smoothing)[0]


def _batch(y: Array, t: Any, owner: str) -> tuple[Array, Array]:
    """One sample (K,) and its target as a batch of one."""
    if y.ndim not in (1, 2):
        raise ShapeError(f"{owner}: expected (N, K) or (K,), got shape {tuple(y.shape)}")
    if y.ndim == 1 and isinstance(t, int):
        t = Backend.of(y).asarray(t)
    array_namespace(t, owner=owner)
    xp = array_namespace(y, t, owner=owner)
    if y.ndim == 1:
        y, t = xp.expand_dims(y, axis=0), xp.expand_dims(t, axis=0)
    return y, label_rows(t, y)
