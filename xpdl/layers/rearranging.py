"""Layers that rearrange the values of a row: another shape, another order of axes, a part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape, row_size
from xpdl.ops import joining as ops
from xpdl.ops.checks import integer, ints, row_axis


class Reshape(Layer):
    """Rows in another shape, their values in the same order; back in the backward pass.

    Parameters
    ----------
    shape : sequence of int
        Of one row, without the batch axis. One of them may be -1: as many as the others leave.

    Raises
    ------
    ShapeError
        If rows have another number of values.

    Examples
    --------
    >>> Reshape((2, 2)).forward(np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([[[1., 2.],
            [3., 4.]]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_shape",)

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = ints(shape, "shape", self.name, -1)
        if 0 in self.shape or self.shape.count(-1) > 1:
            raise ShapeError(f"{self.name}: shape must hold positive ints, and at most one -1, got {self.shape}")
        self._shape: Shape | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        values, known = row_size(input_shape), math.prod(size for size in self.shape if size > 0)
        if values % known or (-1 not in self.shape and values != known):
            raise ShapeError(
                f"{self.name}: rows must have as many values as the shape {self.shape}, got {values} in {input_shape}"
            )
        return tuple(values // known if size < 0 else size for size in self.shape)

    def forward(self, x: Array) -> Array:
        """(N, ...) for `x` (N, ...)."""
        xp = array_namespace(x, owner=self.name)
        _require_batch(x, self.name)
        self._shape = tuple(x.shape)
        return xp.reshape(x, (x.shape[0], *self.output_shape(self._shape[1:])))

    def backward(self, dout: Array) -> Array:
        """`dout` in the shape of the input."""
        shape = self.require_saved(self._shape)
        dout = self.require_dout(dout, (shape[0], *self.output_shape(shape[1:])))
        return array_namespace(dout).reshape(dout, shape)


class Permute(Layer):
    """Rows with their axes in another order, and back in the backward pass.

    Parameters
    ----------
    axes : sequence of int
        The order, counted with the batch axis, which is 0 and stays first: ``(2, 3, 1)`` makes (N, H, W, C) of images
        (N, C, H, W).

    Raises
    ------
    ShapeError
        If `axes` are not those of the rows.

    Examples
    --------
    >>> Permute((2, 1)).forward(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    array([[[1., 3.],
            [2., 4.]]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_shape",)

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = ints(axes, "axes", self.name)
        if sorted(self.axes) != list(range(1, len(self.axes) + 1)):
            raise ShapeError(f"{self.name}: axes must be those of rows, 1 and up, each once, got {self.axes}")
        self._shape: Shape | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.axes):
            raise ShapeError(f"{self.name}: expected rows of {len(self.axes)} axes, got rows of shape {input_shape}")
        return tuple(input_shape[axis - 1] for axis in self.axes)

    def forward(self, x: Array) -> Array:
        """(N, ...) for `x` (N, ...)."""
        xp = array_namespace(x, owner=self.name)
        _require_batch(x, self.name)
        self.output_shape(tuple(x.shape[1:]))
        y = xp.permute_dims(x, (0, *self.axes))
        self._shape = tuple(y.shape)
        return y

    def backward(self, dout: Array) -> Array:
        """`dout` with its axes in the order of the input."""
        dout = self.require_dout(dout, self.require_saved(self._shape))
        back = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return array_namespace(dout).permute_dims(dout, (0, *(axis + 1 for axis in back)))


class Slice(Layer):
    """The entries of rows from `start` up to `stop` along an axis, as ``x[:, start:stop]`` takes them.

    Parameters
    ----------
    start, stop : int or None
        Negative ones count from the end; None is the first and the last.
    axis : int
        Counted with the batch axis, which is 0 and cannot be cut.

    Raises
    ------
    ShapeError
        If nothing is left.

    Examples
    --------
    >>> layer = Slice(1, 3)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([[2., 3.]])
    >>> layer.backward(np.array([[1.0, -1.0]]))
    array([[ 0.,  1., -1.,  0.]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_shape",)

    def __init__(self, start: int | None = None, stop: int | None = None, axis: int = 1) -> None:
        super().__init__()
        self.start = None if start is None else integer(start, "start", self.name)
        self.stop = None if stop is None else integer(stop, "stop", self.name)
        self.axis = integer(axis, "axis", self.name)
        if axis == 0:
            raise ShapeError(f"{self.name}: axis 0 is that of the batch, whose rows stay; give another axis")
        self._shape: Shape | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        axis, start, stop = self.bounds((0, *input_shape))
        return (*input_shape[: axis - 1], stop - start, *input_shape[axis:])

    def forward(self, x: Array) -> Array:
        """(N, ...) for `x` (N, ...)."""
        array_namespace(x, owner=self.name)
        _require_batch(x, self.name)
        axis, start, stop = self.bounds(x.shape)
        self._shape = tuple(x.shape)
        return ops.part(x, start, stop, axis)

    def backward(self, dout: Array) -> Array:
        """`dout` among zeros."""
        shape = self.require_saved(self._shape)
        axis, start, stop = self.bounds(shape)
        dout = self.require_dout(dout, (*shape[:axis], stop - start, *shape[axis + 1 :]))
        return ops.part_backward(dout, shape[axis], start, axis)

    def bounds(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return axis, start and stop for a batch of this shape, none of them negative."""
        axis = row_axis(self.axis, len(shape), self.name)
        start, stop, _ = slice(self.start, self.stop).indices(shape[axis])
        if stop <= start:
            raise ShapeError(
                f"{self.name}: nothing lies between start={self.start} and stop={self.stop} along axis {self.axis}, got "
                f"rows of shape {tuple(shape[1:])}"
            )
        return axis, start, stop


def _require_batch(x: Array, owner: str) -> None:
    if x.ndim == 0:
        raise ShapeError(f"{owner}: expected a batch (N, ...), got shape ()")
