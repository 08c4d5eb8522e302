"""The flattening layer."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape, row_size


class Flatten(Layer):
    """(N, ...) to (N, D), and back in the backward pass. `Affine` does this by itself."""

    saved_names: ClassVar[tuple[str, ...]] = ("_shape",)

    def __init__(self) -> None:
        super().__init__()
        self._shape: Shape | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        return (row_size(input_shape),)

    def forward(self, x: Array) -> Array:
        """(N, D) for `x` (N, ...)."""
        xp = array_namespace(x, owner=self.name)
        if x.ndim == 0:
            raise ShapeError(f"{self.name}: expected a batch (N, ...), got shape ()")
        self._shape = tuple(x.shape)
        return xp.reshape(x, (x.shape[0], row_size(self._shape[1:])))

    def backward(self, dout: Array) -> Array:
        """`dout` in the shape of the input."""
        shape = self.require_saved(self._shape)
        dout = self.require_dout(dout, (shape[0], row_size(shape[1:])))
        return array_namespace(dout).reshape(dout, shape)
