"""Epilogue of an op: the activation that a kernel applies to a result before it is written to memory."""

from __future__ import annotations

from xpdl.backends.namespaces import Array


def is_relu(activation: str | None) -> bool:
    """Return whether the epilogue is a relu; there is none where `activation` is None.

    Raises
    ------
    ValueError
        If it is another activation.
    """
    if activation not in (None, "relu"):
        raise ValueError(
            f"activation: expected None or 'relu', got {activation!r}; call another activation after the op"
        )
    return activation is not None


def relu_output(activation: str | None, y: Array | None) -> Array | None:
    """Return the output `y`, whose positive values are where a relu passes the gradient; None without a relu.

    Raises
    ------
    ValueError
        If it is another activation.
    TypeError
        If a relu's output is missing.
    """
    if not is_relu(activation):
        return None
    if y is None:
        raise TypeError("y: the backward pass of activation='relu' needs the output of the forward pass, got None")
    return y
