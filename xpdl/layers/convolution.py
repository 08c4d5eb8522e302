"""The convolution layer."""

from __future__ import annotations

from typing import Any

from xpdl import initializers
from xpdl.backends.arrays import Pads
from xpdl.backends.namespaces import Array
from xpdl.layers.base import Make, Shape
from xpdl.layers.filters import FilterLayer
from xpdl.ops import convolution as ops
from xpdl.ops.padding import resolved
from xpdl.ops.windows import output_sizes

Weights = tuple[Array, Array | None]


class Convolution(FilterLayer):
    """Convolution of images (the book's ch. 7), signals or volumes.

    Parameters
    ----------
    W : array (FN, C / groups, FH, FW), optional
        Filters, used as they are and not copied; (FN, C / groups, FL) of signals (N, C, L), and
        (FN, C / groups, FD, FH, FW) of volumes (N, C, D, H, W).
    b : array (FN,) or 0, optional
        Bias; 0 stands for zeros, which are a parameter too. With `W` given and no `b`, the layer has none.
    stride : int or tuple of ints
        Step between windows: one for all axes or one for each, (height, width) of images.
    pad : int, tuple of ints or pairs, or "same"
        Zeros added on each side; a pair (before, after) in the place of an int is one-sided, as in
        ``pad=((1, 0), (1, 0))``. "same" adds what gives ``ceil(H / stride)`` rows, of an odd number the larger part behind.
    filters : int, optional
        FN, when there is no `W`; C is then taken from the first input, or from `build`.
    size : int or tuple of ints, optional
        Of a filter, when there is no `W`. As many ints as it has axes: (FL,) for signals, (FH, FW) for images and
        (FD, FH, FW) for volumes; an int is a square of images.
    dilation : int or tuple of ints
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
    >>> Convolution(filters=8, size=(5,), pad="same").build((2, 100))
    (8, 100)
    """

    _FILTERS_AXIS = 0
    _LAYOUT = "(FN, C / groups, FH, FW)"

    def output_shape(self, input_shape: Shape) -> Shape:
        length = self._length(input_shape, None if self.W is None else self.W.shape[1] * self.groups)
        pad = self.border(length)
        return (self.filters, *output_sizes(length, self.size, self.stride, pad, self.dilation, self.name))

    def border(self, length: Shape) -> Pads:
        """Return the border of images of that `length` along each axis."""
        return resolved(self.pad, length, self._extent, self.stride)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        init = initializers.for_groups(self.init, self.groups)
        self.params["W"] = make("W", (self.filters, input_shape[0] // self.groups, *self.size), init)
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
        self._out_size = self.output_shape(tuple(x.shape[1:]))[1:]
        self.x = x
        W, b = weights or (self.W, self.b)
        return ops.convolution(x, W, b, **self._options(x), **epilogue)

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, FN, OH, OW); fills ``dW`` and ``db``."""
        return self.backward_fused(dout)

    def backward_parameters(self, dout: Array) -> None:
        self.backward_fused(dout, need_dx=False)

    def backward_fused(self, dout: Array, *, need_dx: bool = True, **epilogue: Any) -> Array | None:
        """`backward` through the epilogue of `forward_fused`: its activation and output `y`."""
        x = self.require_saved(self.x)
        self.require_dout(dout, (x.shape[0], self.filters, *(self._out_size or ())), x)
        if not (need_dx or self.trainable):
            return None
        needed: dict[str, Any] = {
            "need_dx": need_dx,
            "need_dW": self.trainable,
            "need_db": self.use_bias and self.trainable,
        }
        dx, dW, db = ops.convolution_backward(dout, x, self.W, **self._options(x), **epilogue, **needed)
        self.grads = {name: array for name, array in (("W", dW), ("b", db)) if array is not None}
        return dx

    def _options(self, x: Array) -> dict[str, Any]:
        pad = self.border(tuple(x.shape[2:]))
        return {"stride": self.stride, "pad": pad, "dilation": self.dilation, "groups": self.groups}
