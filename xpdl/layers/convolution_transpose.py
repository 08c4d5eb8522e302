"""The transposed convolution layer."""

from __future__ import annotations

from typing import Any

from xpdl import initializers
from xpdl.backends.arrays import Pads
from xpdl.backends.namespaces import Array
from xpdl.errors import ShapeError
from xpdl.layers.base import Make, Shape
from xpdl.layers.filters import FilterLayer
from xpdl.ops import convolution_transpose as ops
from xpdl.ops.checks import along_axes
from xpdl.ops.convolution import convolution
from xpdl.ops.padding import halves


class ConvolutionTranspose(FilterLayer):
    """Transposed convolution: each value of the input adds a filter, weighted by it, to the output (arXiv:1603.07285).

    Parameters
    ----------
    W : array (C, FN / groups, FH, FW), optional
        Filters of the convolution that this one goes back through, used as they are and not copied; with one axis or three
        behind, of signals and volumes.
    b : array (FN,) or 0, optional
        As in `Convolution`.
    stride, pad, filters, size, dilation, groups, use_bias
        As in `Convolution`. The output has `stride` rows for each of the input, and `pad` is taken from its sides; "same"
        gives ``H stride`` rows.
    output_pad : int or tuple of ints
        Rows and columns added at the end, less than `stride`: where that rounds down, a convolution makes one output of
        inputs of several sizes.
    init : str, float or callable
        As in `Convolution`, with the fan-in ``C / groups * FH * FW``.

    Raises
    ------
    ShapeError
        If options contradict each other, a size is out of range, nothing is left of the output, or shapes do not fit.
    DTypeError
        If the input is not floating.

    Notes
    -----
    (N, C, H, W) gives (N, FN, OH, OW) with ``OH = (H - 1) stride + dilation (FH - 1) + 1 - 2 pad + output_pad``. Forward
    is the gradient of a convolution's images, and ``dx`` that convolution, by the same kernels. Weights have the layout of
    PyTorch and ONNX.

    Examples
    --------
    >>> layer = ConvolutionTranspose(np.ones((1, 1, 2, 2)), stride=2)
    >>> layer.forward(np.array([[[[1.0, 2.0]]]]))
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """

    _FILTERS_AXIS = 1
    _LAYOUT = "(C, FN / groups, FH, FW)"

    def __init__(
        self,
        W: Array | None = None,
        b: Array | float | None = None,
        stride: int | tuple[int, ...] = 1,
        pad: Any = 0,
        *,
        filters: int | None = None,
        size: int | tuple[int, ...] | None = None,
        output_pad: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        init: Any = "he",
        use_bias: bool = True,
    ) -> None:
        options: dict[str, Any] = {"dilation": dilation, "groups": groups, "init": init, "use_bias": use_bias}
        super().__init__(W, b, stride, pad, filters=filters, size=size, **options)
        self.output_pad = along_axes(output_pad, "output_pad", self.name, 0, len(self.size))
        if any(more >= step for more, step in zip(self.output_pad, self.stride, strict=True)):
            raise ShapeError(f"{self.name}: output_pad {self.output_pad} must be smaller than stride {self.stride}")
        if self.pad == "same" and any(self.output_pad):
            raise ShapeError(f'{self.name}: pad="same" determines the size of the output; leave out output_pad')

    def output_shape(self, input_shape: Shape) -> Shape:
        length = self._length(input_shape, None if self.W is None else self.W.shape[0])
        pad, more = self.borders()
        return (
            self.filters,
            *ops.transposed_sizes(length, self.size, self.stride, pad, more, self.dilation, self.name),
        )

    def borders(self) -> tuple[Pads, Shape]:
        """Return what is taken from the sides of the output, and what is added at its end."""
        if not isinstance(self.pad, str):
            return self.pad, self.output_pad
        surplus = [cover - step for cover, step in zip(self._extent, self.stride, strict=True)]
        return halves([max(0, size) for size in surplus]), tuple(max(0, -size) for size in surplus)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        channels, groups, depth = input_shape[0], self.groups, self.filters // self.groups

        def init(shape: Shape, generator: Any) -> Any:
            """Draw the filters of a convolution from C to FN channels, whose fan-in is that of the output here."""
            drawn = initializers.for_groups(self.init, groups)(
                (self.filters, channels // groups, *self.size), generator
            )
            by_group = drawn.reshape((groups, depth, channels // groups, *self.size))
            return by_group.swapaxes(1, 2).reshape(shape)

        self.params["W"] = make("W", (channels, depth, *self.size), init)
        if self.use_bias:
            self.params["b"] = make("b", (self.filters,), "zeros")

    def forward(self, x: Array) -> Array:
        """(N, FN, OH, OW) for images `x` (N, C, H, W)."""
        self.prepare(x)
        self._out_size = self.output_shape(tuple(x.shape[1:]))[1:]
        self.x = x
        return ops.convolution_transpose(x, self.W, self.b, **self._options())

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, FN, OH, OW); fills ``dW`` and ``db``."""
        return self._gradients(dout, need_dx=True)

    def backward_parameters(self, dout: Array) -> None:
        self._gradients(dout, need_dx=False)

    def _gradients(self, dout: Array, need_dx: bool) -> Any:
        x = self.require_saved(self.x)
        self.require_dout(dout, (x.shape[0], self.filters, *(self._out_size or ())), x)
        if not self.trainable:
            self.grads, (pad, _) = {}, self.borders()
            options: dict[str, Any] = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
            return convolution(dout, self.W, **options, pad=pad) if need_dx else None
        needed: dict[str, Any] = {"need_dx": need_dx, "need_db": self.use_bias}
        dx, dW, db = ops.convolution_transpose_backward(dout, x, self.W, **self._options(), **needed)
        self.grads = {"W": dW, "b": db} if self.use_bias else {"W": dW}
        return dx

    def _options(self) -> dict[str, Any]:
        pad, more = self.borders()
        options = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        return {**options, "pad": pad, "output_pad": more}
