"""Epilogue of an op, in the generic form: a relu of the result, and its backward pass."""

from __future__ import annotations

from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.namespaces import Array
from xpdl.ops.activations import relu, relu_backward


def activated(y: Array, activation: str | None) -> Array:
    """Apply the activation to the result of an op."""
    return relu(y) if is_relu(activation) else y


def before_activation(dy: Array, y: Array | None, activation: str | None) -> Array:
    """Take the gradient `dy` back through the activation, whose output is `y`."""
    y = relu_output(activation, y)
    return dy if y is None else relu_backward(dy, y)
