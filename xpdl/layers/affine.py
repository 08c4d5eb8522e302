"""The affine (fully connected) layer."""

from __future__ import annotations

import math
from typing import Any

from xpdl import initializers
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.layers.base import (
    Layer,
    Make,
    Shape,
    array_of_zero,
    gradient,
    parameter,
    require_drawn,
    require_parameters,
    row_size,
)
from xpdl.ops import affine as ops
from xpdl.ops.checks import flag, positive_int


class Affine(Layer):
    """Fully connected layer: ``y = x W + b`` (the book's ch. 5.6).

    Parameters
    ----------
    W : array (D, M), optional
        Weights, used as they are and not copied.
    b : array (M,) or 0, optional
        Bias; 0 stands for zeros, which are a parameter too. With `W` given and no `b`, the layer has none.
    units : int, optional
        M, when there is no `W`; D is then taken from the first input, or from `build`.
    init : str, float or callable
        How `W` is drawn, see `xpdl.initializers`; `b` starts at 0. It is refused beside a `W` that is given.
    use_bias : bool
        Whether to make a `b` along with `W`. False is refused beside a `b` that is given.
    axis : {1, -1}
        1: an input (N, ...) is flattened after axis 0, to (N, D). -1: each vector (D,) along the last axis is mapped by
        itself, so that (N, ..., D) gives (N, ..., M), as for the positions of a sequence (N, T, D).

    Raises
    ------
    ShapeError
        If options contradict each other, or the sizes of an input, `W`, `b` or `dout` do not fit together.
    DTypeError
        If the input is not floating.

    Notes
    -----
    Inputs of any rank are flattened to two axes, and their shape is restored in the backward pass. The layer saves its input
    for that.

    Examples
    --------
    >>> layer = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, -0.5]))
    >>> layer.forward(np.array([[1.0, 1.0]]))
    array([[4.5, 5.5]])
    >>> layer.backward(np.array([[1.0, 0.0]])), layer.dW
    (array([[1., 3.]]), array([[1., 0.],
           [1., 0.]]))
    """

    W, b = parameter("W"), parameter("b")
    dW, db = gradient("W"), gradient("b")

    def __init__(
        self,
        W: Array | None = None,
        b: Array | float | None = None,
        *,
        units: int | None = None,
        init: Any = "he",
        use_bias: bool = True,
        axis: int = 1,
    ) -> None:
        super().__init__()
        if isinstance(axis, bool) or axis not in (1, -1):
            raise ShapeError(f"{self.name}: axis must be 1, all axes after the first, or -1, the last, got {axis!r}")
        self.axis = axis
        if (W is None) == (units is None):
            raise ShapeError("Affine: give either the array W or the number of units, Affine(units=10)")
        if W is None:
            if b is not None:
                raise ShapeError("Affine: b without W; give both arrays, or units alone")
            self.units = positive_int(units, "units", self.name)
        else:
            b = array_of_zero(b, W, -1)
            require_parameters(self.name, W=W, b=b)
            if W.ndim != 2 or (b is not None and tuple(b.shape) != (W.shape[1],)):
                raise ShapeError(
                    f"Affine: W must be (D, M) and b (M,), got {tuple(W.shape)} and {None if b is None else tuple(b.shape)}"
                )
            self.units = W.shape[1]
            self.params = {"W": W} if b is None else {"W": W, "b": b}
        initializers.resolve(init, f"{self.name}: init")
        flag(use_bias, "use_bias", self.name)
        if W is not None:
            require_drawn(self.name, init, use_bias, b)
        self.init = init
        self.use_bias = use_bias if W is None else b is not None
        self.x: Array | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        W = self.W
        if not input_shape or (W is not None and self._features(input_shape) != W.shape[0]):
            place = "a row" if self.axis == 1 else "along the last axis"
            want = "rows of features" if W is None else f"{W.shape[0]} values {place}, as W {tuple(W.shape)} has"
            raise ShapeError(f"{self.name}: expected a batch (N, ...) with {want}, got rows of shape {input_shape}")
        return (self.units,) if self.axis == 1 else (*input_shape[:-1], self.units)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        self.params["W"] = make("W", (self._features(input_shape), self.units), self.init)
        if self.use_bias:
            self.params["b"] = make("b", (self.units,), "zeros")

    def forward(self, x: Array) -> Array:
        """(N, M) for `x` (N, ...), or (N, ..., M) with ``axis=-1``."""
        return self.forward_fused(x)

    def forward_fused(self, x: Array, train_flg: bool | None = None, **epilogue: Any) -> Array:
        """`forward` with an epilogue of `xpdl.ops.affine.affine`."""
        self.prepare(x)
        W = self.W
        if x.ndim == 2 and x.shape[1] == W.shape[0]:  # vectors that fit, at a third of the cost
            self.x = x
            return ops.affine(x, W, self.b, **epilogue)
        shape = self.output_shape(tuple(x.shape[1:]))
        self.x = x
        y = ops.affine(self._rows(x), W, self.b, **epilogue)
        return y if len(shape) == 1 else array_namespace(y).reshape(y, (x.shape[0], *shape))

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` of that of the output; fills ``dW`` and ``db``."""
        return self.backward_fused(dout)

    def backward_parameters(self, dout: Array) -> None:
        self.backward_fused(dout, need_dx=False)

    def backward_fused(
        self, dout: Array, *, y: Array | None = None, activation: str | None = None, need_dx: bool = True
    ) -> Array | None:
        """`backward` through the activation of `forward_fused`, whose output is `y`."""
        x = self.require_saved(self.x)
        self.require_dout(dout, (*x.shape[: self.axis], self.units), x)
        rows, dy = x, dout
        if self.axis == -1:
            rows, dy, y = self._rows(x), self._rows(dout), None if y is None else self._rows(y)
        dx: Array | None
        if self.trainable:
            dx, dW, db = ops.affine_backward(
                dy, rows, self.W, y=y, activation=activation, need_dx=need_dx, need_db=self.use_bias
            )
            self.grads = {"W": dW, "b": db} if self.use_bias else {"W": dW}
        else:
            dx, self.grads = ops.affine_backward_input(dy, self.W, y=y, activation=activation) if need_dx else None, {}
        return dx if dx is None or dx.shape == x.shape else array_namespace(dx).reshape(dx, x.shape)

    def _features(self, input_shape: Shape) -> int:
        return row_size(input_shape) if self.axis == 1 else input_shape[-1]

    def _rows(self, a: Array) -> Array:
        """Vectors along the last axis as rows; the op itself flattens what is mapped as a whole."""
        if self.axis == 1 or a.ndim == 2:
            return a
        return array_namespace(a).reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
