"""Layers of several inputs: concatenation, sum and product."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, on_its_device
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape
from xpdl.ops import joining as ops
from xpdl.ops.arithmetic import add, multiply, multiply_backward, sum_to
from xpdl.ops.checks import as_floating, integer, row_axis


class _Elementwise(Layer):
    """A function of inputs whose axes have the same size, or 1, which is repeated."""

    def output_shape(self, *input_shapes: Shape) -> Shape:
        if len({len(shape) for shape in input_shapes}) > 1:
            raise ShapeError(
                f"{self.name}: inputs must have the same number of axes, got rows of shape {_listed(input_shapes)}"
            )
        sizes = [max(axis) for axis in zip(*input_shapes, strict=True)]
        for shape in input_shapes:
            if any(size not in (1, most) for size, most in zip(shape, sizes, strict=True)):
                raise ShapeError(
                    f"{self.name}: inputs must have rows of one shape, or with axes of size 1, got {_listed(input_shapes)}"
                )
        return tuple(sizes)

    def _checked(self, xs: tuple[Array, ...]) -> list[Array]:
        array_namespace(*xs, owner=self.name)
        self.output_shape(*(tuple(x.shape[1:]) for x in xs))
        _require_rows(self.name, xs)
        return [as_floating(x, self.name) for x in xs]


class Add(_Elementwise):
    """The sum of two or more inputs; axes of size 1 are repeated.

    Raises
    ------
    ShapeError
        If the inputs do not fit together.

    Examples
    --------
    >>> layer = Add()
    >>> layer.forward(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]))
    array([[11., 22.]])
    >>> layer.backward(np.array([[1.0, -1.0]]))
    (array([[ 1., -1.]]), array([[ 1., -1.]]))
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_shapes",)

    def __init__(self) -> None:
        super().__init__()
        self._shapes: list[Shape] | None = None

    def forward(self, *xs: Array) -> Array:
        """The sum of arrays (N, ...)."""
        xs = tuple(self._checked(xs))
        self._shapes = [tuple(x.shape) for x in xs]
        alike = all(shape == self._shapes[0] for shape in self._shapes)
        return functools.reduce(add if alike else _repeating_sum, xs)

    def backward(self, dout: Array) -> tuple[Array, ...]:
        """``dx`` for each input."""
        shapes = self.require_saved(self._shapes)
        dout = self.require_dout(dout, _repeated(shapes))
        return tuple(sum_to(dout, shape) for shape in shapes)


class Multiply(_Elementwise):
    """The product of two or more inputs; axes of size 1 are repeated.

    Raises
    ------
    ShapeError
        If the inputs do not fit together.

    Examples
    --------
    >>> layer = Multiply()
    >>> layer.forward(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]))
    array([[10., 40.]])
    >>> layer.backward(np.array([[1.0, 1.0]]))
    (array([[10., 20.]]), array([[1., 2.]]))
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_factors",)

    def __init__(self) -> None:
        super().__init__()
        self._factors: list[tuple[Array, Array]] | None = None  # of each product, in order
        self._shape: Shape = ()

    def forward(self, *xs: Array) -> Array:
        """The product of arrays (N, ...)."""
        y, *others = self._checked(xs)
        self._factors = []
        for x in others:
            self._factors.append((y, x))
            y = multiply(y, x)
        self._shape = tuple(y.shape)
        return y

    def backward(self, dout: Array) -> tuple[Array, ...]:
        """``dx`` for each input."""
        factors = self.require_saved(self._factors)
        dout = self.require_dout(dout, self._shape, *(factors[0][:1] if factors else ()))
        dxs = []
        for y, x in reversed(factors):
            dout, dx = multiply_backward(dout, y, x)
            dxs.append(dx)
        return (dout, *reversed(dxs))


class Concatenate(Layer):
    """Inputs one behind the other along an axis.

    Parameters
    ----------
    axis : int
        Of the arrays with their batch axis, which is 0 and cannot be joined: 1 joins features or channels.

    Raises
    ------
    ShapeError
        If the inputs differ along other axes.

    Examples
    --------
    >>> layer = Concatenate()
    >>> layer.forward(np.array([[1.0, 2.0]]), np.array([[10.0]]))
    array([[ 1.,  2., 10.]])
    >>> layer.backward(np.array([[1.0, 2.0, 3.0]]))
    (array([[1., 2.]]), array([[3.]]))
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_sizes",)

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = integer(axis, "axis", self.name)
        if axis == 0:
            raise ShapeError(f"{self.name}: axis 0 is that of the batch, whose rows stay apart; give another axis")
        self._sizes: tuple[int, ...] | None = None
        self._shape: Shape = ()

    def output_shape(self, *input_shapes: Shape) -> Shape:
        axis = row_axis(self.axis, len(input_shapes[0]) + 1, self.name) - 1
        rest = [(*shape[:axis], *shape[axis + 1 :]) for shape in input_shapes]
        if len({len(shape) for shape in input_shapes}) > 1 or len(set(rest)) > 1:
            raise ShapeError(
                f"{self.name}: inputs must agree but along axis {self.axis}, got rows of shape {_listed(input_shapes)}"
            )
        first = input_shapes[0]
        return (*first[:axis], sum(shape[axis] for shape in input_shapes), *first[axis + 1 :])

    def forward(self, *xs: Array) -> Array:
        """The arrays (N, ...) joined."""
        array_namespace(*xs, owner=self.name)
        self.output_shape(*(tuple(x.shape[1:]) for x in xs))
        _require_rows(self.name, xs)
        axis = row_axis(self.axis, xs[0].ndim, self.name)
        self._sizes = tuple(int(x.shape[axis]) for x in xs)
        y = ops.concatenate([as_floating(x, self.name) for x in xs], axis)
        self._shape = tuple(y.shape)
        return y

    def backward(self, dout: Array) -> tuple[Array, ...]:
        """``dx`` for each input."""
        sizes = self.require_saved(self._sizes)
        dout = self.require_dout(dout, self._shape)
        return tuple(ops.concatenate_backward(dout, sizes, self.axis))


@on_its_device
def _repeating_sum(x: Array, y: Array) -> Array:
    return x + y


def _repeated(shapes: list[Shape]) -> Shape:
    return tuple(max(axis) for axis in zip(*shapes, strict=True))


def _require_rows(owner: str, xs: tuple[Array, ...]) -> None:
    rows = [int(x.shape[0]) for x in xs]
    if len(set(rows)) > 1:
        raise ShapeError(f"{owner}: inputs must have the same number of rows, got {rows}")


def _listed(shapes: Any) -> str:
    return " and ".join(map(str, shapes))
