"""The layer that enlarges images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer, Shape
from xpdl.layers.layouts import rank_of, require_layout
from xpdl.ops import upsampling as ops
from xpdl.ops.checks import along_axes, require_floating

_MODES = ("nearest", "linear")


class UpSampling(Layer):
    """Enlarge images, signals or volumes by whole factors.

    Parameters
    ----------
    scale : int or tuple of ints
        Factor of all axes behind the channels, or one for each.
    mode : "nearest" or "linear"
        Repeat values, or interpolate between neighbours, bilinearly in images: centres of pixels are places of values, and
        the border has the value of its last pixel, as in PyTorch with ``align_corners=False``.

    Raises
    ------
    ShapeError
        If a factor is less than 1, or there is not one for each axis.
    ValueError
        If there is no such mode.

    Notes
    -----
    (N, C, H, W) gives (N, C, H * scale, W * scale). It is followed by a convolution where `ConvolutionTranspose` would draw
    checkerboards.

    Examples
    --------
    >>> UpSampling(2).forward(np.array([[[[1.0, 2.0]]]]))
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    >>> UpSampling((2,), mode="linear").forward(np.array([[[0.0, 4.0]]]))
    array([[[0., 1., 3., 4.]]])
    """

    saved_names: ClassVar[tuple[str, ...]] = ("x",)

    def __init__(self, scale: int | tuple[int, ...] = 2, *, mode: str = "nearest") -> None:
        super().__init__()
        factors = along_axes(scale, "scale", self.name, 1, rank_of(scale, self.name, "scale"))
        self.scale: int | tuple[int, ...] = factors if isinstance(scale, Iterable) else factors[0]
        if mode not in _MODES:
            raise ValueError(f"{self.name}: mode must be 'nearest' or 'linear', got {mode!r}")
        self.mode = mode
        self.x: Array | None = None

    def factors(self, rank: int) -> Shape:
        """Return the factor of each of so many axes."""
        return (self.scale,) * rank if isinstance(self.scale, int) else self.scale

    def output_shape(self, input_shape: Shape) -> Shape:
        require_layout(input_shape, None if isinstance(self.scale, int) else len(self.scale), self.name)
        channels, *length = input_shape
        return (channels, *(size * by for size, by in zip(length, self.factors(len(length)), strict=True)))

    def forward(self, x: Array) -> Array:
        """The enlarged images of `x` (N, C, H, W)."""
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))
        self.x = x
        enlarge = ops.upsampling if self.mode == "nearest" else ops.linear_upsampling
        return enlarge(x, self.factors(x.ndim - 2))

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout`, which has that of the output."""
        x = self.require_saved(self.x)
        dout = self.require_dout(dout, (x.shape[0], *self.output_shape(tuple(x.shape[1:]))), x)
        reduce = ops.upsampling_backward if self.mode == "nearest" else ops.linear_upsampling_backward
        return reduce(dout, self.factors(x.ndim - 2))
