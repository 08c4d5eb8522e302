"""A layer of fixed factors and summands, as files of other programs have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, on_its_device
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Make, Shape, require_parameters
from xpdl.ops.arithmetic import multiply
from xpdl.ops.checks import ints


class ScaleShift(Layer):
    """``scale x + shift`` with fixed numbers, which no training changes.

    Parameters
    ----------
    shape : sequence of int
        Of both, as long as that of a row, with 1 along axes on which they do not depend.
    scale, shift : array of `shape`, optional
        Used as they are and not copied; ones and zeros when not given.

    Notes
    -----
    ``scale`` and ``shift`` are in `state`.
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_x",)

    def __init__(self, shape: Sequence[int], *, scale: Array | None = None, shift: Array | None = None) -> None:
        super().__init__()
        self.shape = ints(shape, "shape", self.name)
        given = {key: value for key, value in (("scale", scale), ("shift", shift)) if value is not None}
        if given:
            require_parameters(self.name, **given)
        for key, value in given.items():
            if tuple(value.shape) != self.shape:
                raise ShapeError(f"{self.name}: {key} must have the shape {self.shape}, got {tuple(value.shape)}")
        self.state.update(given)
        self._x: Array | None = None  # for its shape and dtype

    def get_config(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    @property
    def built(self) -> bool:
        return len(self.state) == 2

    def output_shape(self, input_shape: Shape) -> Shape:
        fits = len(input_shape) == len(self.shape) and all(
            one in (1, size) for one, size in zip(self.shape, input_shape, strict=True)
        )
        if not fits:
            raise ShapeError(f"{self.name}: expected rows that {self.shape} fits, got rows of shape {input_shape}")
        return input_shape

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        for key, value in (("scale", 1.0), ("shift", 0.0)):
            if key not in self.state:
                zeros = make(key, self.shape, "zeros")
                self.state[key] = array_namespace(zeros).add(zeros, value)

    def forward(self, x: Array) -> Array:
        """(N, ...) for `x` (N, ...)."""
        self.prepare(x)
        array_namespace(x, *self.state.values(), owner=self.name)
        self.output_shape(tuple(x.shape[1:]))
        self._x = x
        scale, shift = (self.state[key][None, ...] for key in ("scale", "shift"))
        return _sum(multiply(x, scale), shift)

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout`, of the shape of the input."""
        x = self.require_saved(self._x)
        dout = self.require_dout(dout, x.shape, x)
        return multiply(dout, self.state["scale"][None, ...])


@on_its_device
def _sum(x: Array, y: Array) -> Array:
    return x + y
