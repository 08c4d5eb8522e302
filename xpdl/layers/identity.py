"""The identity layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.base import Layer


class Identity(Layer):
    """Gives back what it gets, forward and backward: the output activation of regression, a shortcut, a placeholder."""

    repeatable_backward: ClassVar[bool] = True

    def forward(self, x: Array) -> Array:
        """`x` itself."""
        array_namespace(x, owner=self.name)
        return x

    def backward(self, dout: Array) -> Array:
        """`dout` itself."""
        return dout
