"""Encodings of positions, added to the values of a sequence."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Make, Shape, gradient, parameter
from xpdl.layers.layouts import sequence_cure
from xpdl.ops import positional as ops
from xpdl.ops.checks import number, positive_int, require_floating


class SinusoidalPositions(Layer):
    """Add sines and cosines of the positions, of wavelengths that grow from 2 pi (arXiv:1706.03762, sec. 3.5).

    Value 2 d of position t gets ``sin(t / base^(2 d / E))``, and value 2 d + 1 the cosine.

    Parameters
    ----------
    base : float
        The longest wavelength is 2 pi times that.

    Raises
    ------
    ShapeError
        If an input is no sequences (N, T, E).
    DTypeError
        If it is not floating.

    Examples
    --------
    >>> SinusoidalPositions().forward(np.zeros((1, 2, 2))).round(3)
    array([[[0.   , 1.   ],
            [0.841, 0.54 ]]])
    """

    def __init__(self, base: float = 10000.0) -> None:
        super().__init__()
        self.base = number(base, "base", self.name, "positive")
        self.saved: tuple[Shape, Array] | None = None  # the shape of the input, and an empty array beside it

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise ShapeError(
                f"{self.name}: expected sequences (N, T, E), got rows of shape {input_shape}{sequence_cure(input_shape)}"
            )
        return input_shape

    def forward(self, x: Array) -> Array:
        """`x` (N, T, E) and the encodings of its positions."""
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))
        self.saved = tuple(x.shape), array_namespace(x).zeros((0,), dtype=x.dtype, device=device(x))
        return ops.sinusoidal_positions(x, self.base)

    def backward(self, dout: Array) -> Array:
        """`dout` itself."""
        return self.require_dout(dout, *self.require_saved(self.saved))


class LearnedPositions(Layer):
    """Add a learned vector for each position, as GPT-2 does.

    Parameters
    ----------
    length : int
        Positions that there are vectors for, the most that a sequence may have.
    init : str, float or callable
        How ``W`` is drawn, see `xpdl.initializers`; by default from a normal distribution with standard deviation 0.01.

    Raises
    ------
    ShapeError
        If an input is no sequences (N, T, E) of at most `length` positions.
    DTypeError
        If it is not floating.

    Notes
    -----
    ``W`` is (length, E). The gradient of positions that a batch does not have is 0.

    Examples
    --------
    >>> layer = LearnedPositions(8)
    >>> layer.build((5, 3)), layer.W.shape
    ((5, 3), (8, 3))
    """

    W, dW = parameter("W"), gradient("W")
    saved_names: ClassVar[tuple[str, ...]] = ("_shape",)

    def __init__(self, length: int, *, init: Any = 0.01) -> None:
        super().__init__()
        self.length = positive_int(length, "length", self.name)
        initializers.resolve(init, f"{self.name}: init")
        self.init = init
        self._shape: Shape | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        size = "E" if self.W is None else self.W.shape[1]
        if len(input_shape) != 2 or input_shape[0] > self.length or (self.W is not None and input_shape[1] != size):
            raise ShapeError(
                f"{self.name}: expected sequences (N, T, {size}) of at most {self.length} positions, got rows of shape "
                f"{input_shape}{sequence_cure(input_shape)}"
            )
        return input_shape

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        self.params["W"] = make("W", (self.length, input_shape[1]), self.init)

    def forward(self, x: Array) -> Array:
        """`x` (N, T, E) and the vectors of its positions."""
        self.prepare(x)
        self.output_shape(tuple(x.shape[1:]))
        self._shape = tuple(x.shape)
        return ops.learned_positions(x, self.W)

    def backward(self, dout: Array) -> Array:
        """`dout` itself; fills ``dW``."""
        self.require_dout(dout, self.require_saved(self._shape), self.W)
        self.grads = {"W": ops.learned_positions_backward(dout, self.length)[1]} if self.trainable else {}
        return dout
