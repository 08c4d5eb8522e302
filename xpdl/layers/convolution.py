"""The convolution layer."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends.namespaces import Array
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
)
from xpdl.ops import convolution as ops
from xpdl.ops.checks import flag, pair, positive_int
from xpdl.ops.windows import output_sizes

Weights = tuple[Array, Array | None]


class Convolution(Layer):
    """Two-dimensional convolution of images (the book's ch. 7).

    Parameters
    ----------
    W : array (FN, C / groups, FH, FW), optional
        Filters, used as they are and not copied.
    b : array (FN,) or 0, optional
        Bias; 0 stands for zeros, which are a parameter too. With `W` given and no `b`, the layer has none.
    stride, pad : int or pair of ints
        Step between windows, and zeros added on each side; a pair is (height, width).
    filters, size : int, int or pair, optional
        FN and (FH, FW), when there is no `W`; C is then taken from the first input, or from `build`.
    dilation : int or pair of ints
        Distance between the taps of a filter.
    groups : int
        Filters and channels are split into so many groups that do not see each other.
    init : str, float or callable
        How `W` is drawn, see `xpdl.initializers`; `b` starts at 0. It is refused beside a `W` that is given.
    use_bias : bool
        Whether to make a `b` along with `W`. False is refused beside a `b` that is given.

    Raises
    ------
    ShapeError
        If options contradict each other, a size is out of range, the filter is larger than the padded image, or shapes do
        not fit together.
    DTypeError
        If the input is not floating.

    Notes
    -----
    ``y[n, k, i, j] = b[k] + sum over c, u, v of W[k, c, u, v] x[n, c, i stride + u dilation - pad, ...]``: the filter is
    not flipped (cross-correlation), as in the book. Output (N, FN, OH, OW) with
    ``OH = (H + 2 pad - dilation (FH - 1) - 1) // stride + 1``. The layer keeps its input for the backward pass.

    Examples
    --------
    >>> layer = Convolution(np.ones((1, 1, 2, 2)), np.zeros(1))
    >>> layer.forward(np.arange(9.0).reshape(1, 1, 3, 3))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """

    W, b = parameter("W"), parameter("b")
    dW, db = gradient("W"), gradient("b")

    saved_names: ClassVar[tuple[str, ...]] = ("x", "_out_size")

    def __init__(
        self,
        W: Array | None = None,
        b: Array | float | None = None,
        stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int] = 0,
        *,
        filters: int | None = None,
        size: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        init: Any = "he",
        use_bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride = pair(stride, "stride", self.name, 1)
        self.pad = pair(pad, "pad", self.name, 0)
        self.dilation = pair(dilation, "dilation", self.name, 1)
        self.groups = positive_int(groups, "groups", self.name)
        if W is None:
            if filters is None or size is None or b is not None:
                raise ShapeError("Convolution: give the array W (and b), or filters=16, size=3")
            self.filters = positive_int(filters, "filters", self.name)
            self.size = pair(size, "size", self.name, 1)
        else:
            if filters is not None or size is not None:
                raise ShapeError("Convolution: filters and size follow from W; give either them or W")
            b = array_of_zero(b, W, 0)
            require_parameters(self.name, W=W, b=b)
            if W.ndim != 4 or (b is not None and tuple(b.shape) != (W.shape[0],)):
                raise ShapeError(
                    "Convolution: W must be (FN, C / groups, FH, FW) and b (FN,), got "
                    f"{tuple(W.shape)} and {None if b is None else tuple(b.shape)}"
                )
            self.filters, self.size = W.shape[0], tuple(W.shape[2:])
            self.params = {"W": W} if b is None else {"W": W, "b": b}
        if self.filters % self.groups:
            raise ShapeError(f"Convolution: {self.filters} filters do not divide into {self.groups} groups")
        initializers.resolve(init, f"{self.name}: init")
        flag(use_bias, "use_bias", self.name)
        if W is not None:
            require_drawn(self.name, init, use_bias, b)
        self.init = init
        self.use_bias = use_bias if W is None else b is not None
        self.x: Array | None = None
        self._out_size: tuple[int, int] | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(f"{self.name}: expected images (N, C, H, W), got rows of shape {input_shape}")
        channels, height, width = input_shape
        if channels % self.groups:
            raise ShapeError(f"{self.name}: {channels} channels do not divide into {self.groups} groups")
        if self.W is not None and channels != self.W.shape[1] * self.groups:
            raise ShapeError(
                f"{self.name}: expected {self.W.shape[1] * self.groups} channels, as W {tuple(self.W.shape)} in "
                f"{self.groups} group(s) has, got images of shape {input_shape}"
            )
        out = output_sizes((height, width), self.size, self.stride, self.pad, self.dilation, self.name)
        return (self.filters, *out)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        self.params["W"] = make("W", (self.filters, input_shape[0] // self.groups, *self.size), self.init)
        if self.use_bias:
            self.params["b"] = make("b", (self.filters,), "zeros")

    def forward(self, x: Array) -> Array:
        """(N, FN, OH, OW) for images `x` (N, C, H, W)."""
        return self.forward_fused(x)

    def forward_fused(
        self, x: Array, train_flg: bool | None = None, *, weights: Weights | None = None, **epilogue: Any
    ) -> Array:
        """`forward` with an epilogue of `xpdl.ops.convolution.convolution`, perhaps with other `weights`: filters, bias."""
        self.prepare(x)
        self._out_size = self.output_shape(tuple(x.shape[1:]))[1:]  # type: ignore[assignment]
        self.x = x
        W, b = weights or (self.W, self.b)
        return ops.convolution(x, W, b, **self._options(), **epilogue)

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, FN, OH, OW); fills ``dW`` and ``db``."""
        return self.backward_fused(dout)

    def backward_parameters(self, dout: Array) -> None:
        self.backward_fused(dout, need_dx=False)

    def backward_fused(self, dout: Array, *, need_dx: bool = True, **epilogue: Any) -> Array | None:
        """`backward` through the epilogue of `forward_fused`: its activation and output `y`."""
        x = self.require_saved(self.x)
        self.require_dout(dout, (x.shape[0], self.filters, *(self._out_size or ())), x)
        dx, dW, db = ops.convolution_backward(
            dout, x, self.W, **self._options(), **epilogue, need_dx=need_dx, need_db=self.use_bias
        )
        self.grads = {"W": dW, "b": db} if self.use_bias else {"W": dW}
        return dx

    def _options(self) -> dict[str, Any]:
        return {"stride": self.stride, "pad": self.pad, "dilation": self.dilation, "groups": self.groups}
