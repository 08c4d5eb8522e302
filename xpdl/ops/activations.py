"""Activation functions and their backward passes, stable for any input."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.precision import in_float32

# the sigmoid is 0 or 1 beyond, in float64 too
_FAR = 1e4


@op
def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return array_namespace(x).maximum(x, 0.0)


@op
def relu_backward(dy: Array, y: Array) -> Array:
    """`dy` where the output `y` is positive, else 0; at the kink the derivative is 0."""
    xp = array_namespace(dy, y)
    return xp.where(y > 0, dy, 0.0)


@op
@in_float32
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, from ``exp(-|x|)``, which cannot overflow."""
    xp = array_namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


@op
@in_float32
def sigmoid_backward(dy: Array, y: Array) -> Array:
    """``dy * y (1 - y)`` for the output `y`."""
    return dy * y * (1.0 - y)


@op
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return array_namespace(x).tanh(x)


@op
@in_float32
def tanh_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - y^2)`` for the output `y`."""
    return dy * (1.0 - y * y)


@op
@in_float32
def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` along `axis`; the maximum is subtracted first, so nothing overflows."""
    xp = array_namespace(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@op
@in_float32
def softmax_backward(dy: Array, y: Array, axis: int = -1) -> Array:
    """``y * (dy - sum(dy * y))`` for the output `y`."""
    xp = array_namespace(dy, y)
    return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True))


@op
@in_float32
def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))`` along `axis`."""
    xp = array_namespace(x)
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@op
@in_float32
def log_softmax_backward(dy: Array, y: Array, axis: int = -1) -> Array:
    """``dy - exp(y) sum(dy)`` for the output `y`."""
    xp = array_namespace(dy, y)
    return dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True)


@op
@in_float32
def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """`x` where it is positive, else ``slope * x``."""
    return array_namespace(x).where(x > 0, x, slope * x)


@op
@in_float32
def leaky_relu_backward(dy: Array, y: Array, slope: float = 0.01) -> Array:
    """`dy` where the output `y` is positive, else ``slope * dy``; `slope` is at least 0, so that `y` has the sign of `x`."""
    return array_namespace(dy, y).where(y > 0, dy, slope * dy)


@op
@in_float32
def elu(x: Array, alpha: float = 1.0) -> Array:
    """`x` where it is positive, else ``alpha * (exp(x) - 1)``."""
    xp = array_namespace(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0.0)))


@op
@in_float32
def elu_backward(dy: Array, y: Array, alpha: float = 1.0) -> Array:
    """`dy` where the output `y` is positive, else ``dy * (y + alpha)``, as ``alpha exp(x)`` is ``y + alpha``."""
    return array_namespace(dy, y).where(y > 0, dy, dy * (y + alpha))


@op
@in_float32
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, 0 at minus infinity."""
    return array_namespace(x).maximum(x, -_FAR) * sigmoid(x)


@op
@in_float32
def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s (1 + x (1 - s))`` with ``s = sigmoid(x)``."""
    xp, s = array_namespace(dy, x), sigmoid(x)
    near = xp.minimum(xp.maximum(x, -_FAR), _FAR)
    return dy * s * (1.0 + near * (1.0 - s))


@op
@in_float32
def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``, as ``max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow."""
    xp = array_namespace(x)
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


@op
@in_float32
def softplus_backward(dy: Array, y: Array) -> Array:
    """``dy * (1 - exp(-y))`` for the output `y`, which is ``dy * sigmoid(x)``."""
    return -dy * array_namespace(dy, y).expm1(-y)
