"""Pooling layers: maximum and average, of windows and of whole images."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.backends.arrays import Pads
from xpdl.backends.namespaces import Array
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape
from xpdl.layers.layouts import rank_of, require_layout
from xpdl.ops import pooling as ops
from xpdl.ops.checks import along_axes, flag, require_floating
from xpdl.ops.padding import padding, resolved, rounded_up, sides
from xpdl.ops.windows import output_sizes

Option = int | tuple[int, ...]


class _WindowPooling(Layer):
    saved_names: ClassVar[tuple[str, ...]] = ("x", "out", "_taps")

    def __init__(
        self,
        pool_h: int | None = None,
        pool_w: int | None = None,
        stride: Option = 2,
        pad: Any = 0,
        *,
        size: Option | None = None,
        dilation: Option = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        if (pool_h is None) != (pool_w is None) or (pool_h is None) == (size is None):
            given = f"pool_h={pool_h!r}, pool_w={pool_w!r}, size={size!r}"
            raise ShapeError(f"{self.name}: give either pool_h and pool_w or size, got {given}")
        if size is None:
            self.size = along_axes((pool_h, pool_w), "pool_h, pool_w", self.name, 1, 2)
        else:
            self.size = along_axes(size, "size", self.name, 1, rank_of(size, self.name))
        rank = len(self.size)
        self.stride = along_axes(stride, "stride", self.name, 1, rank)
        self.dilation = along_axes(dilation, "dilation", self.name, 1, rank)
        self.pad = padding(pad, rank, self.name)
        self.ceil_mode = flag(ceil_mode, "ceil_mode", self.name)
        self._extent = tuple(gap * (taps - 1) + 1 for taps, gap in zip(self.size, self.dilation, strict=True))
        if self.pad != "same":
            self._require_narrow(self.pad)
        self.x: Array | None = None
        self.out: Array | None = None
        self._taps: Any = None

    @property
    def pool_h(self) -> int | None:
        """Height of the window; None where it is not one of images."""
        return self.size[0] if len(self.size) == 2 else None

    @property
    def pool_w(self) -> int | None:
        """Width of the window; None where it is not one of images."""
        return self.size[1] if len(self.size) == 2 else None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if len(self.size) == 2:
            del config["size"]
        return config

    def output_shape(self, input_shape: Shape) -> Shape:
        require_layout(input_shape, len(self.size), self.name)
        channels, *length = input_shape
        pad = self.border(tuple(length))
        return (channels, *output_sizes(tuple(length), self.size, self.stride, pad, self.dilation, self.name))

    def border(self, length: Shape) -> Pads:
        """Return the border of images of that `length` along each axis; what `ceil_mode` adds is part of it."""
        pad = resolved(self.pad, length, self._extent, self.stride)
        return rounded_up(pad, length, self._extent, self.stride) if self.ceil_mode else pad

    def _require_narrow(self, pad: Pads) -> None:
        if any(max(sides(border)) >= extent for border, extent in zip(pad, self._extent, strict=True)):
            raise ShapeError(
                f"{self.name}: pad {pad} must be smaller than the window {self._extent}: a window in the border alone "
                "has no value"
            )

    def _check(self, x: Array) -> None:
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))

    def _windows(self, x: Array) -> dict[str, Any]:
        """The options of the ops."""
        pad = self.border(tuple(x.shape[2:]))
        return {"size": self.size, "stride": self.stride, "pad": pad, "dilation": self.dilation}


class Pooling(_WindowPooling):
    """Max pooling: the largest value of each window (the book's ch. 7.3).

    Parameters
    ----------
    pool_h, pool_w : int, optional
        Size of the window over images, in the place of `size`.
    stride : int or tuple of ints
        Step between windows, one for all axes or one for each.
    pad : int, tuple of ints or pairs, or "same"
        Border on each side, smaller than the window. It counts as -inf and never wins; the book pads with 0, which wins
        over negative activations. As in `Convolution`, one for each axis may be (before, after), and "same" is what gives
        ``ceil(H / stride)`` rows.
    size : int or tuple of ints, optional
        As many ints as the windows have axes: (L,) for signals (N, C, L), (H, W) for images and (D, H, W) for volumes; an
        int is a square of images.
    dilation : int or tuple of ints
        Distance between the values of a window.
    ceil_mode : bool
        Whether the number of windows is rounded up: the last one may reach over the end, but starts before it.

    Raises
    ------
    ShapeError
        If the window does not fit the padded image, or an argument is out of range.

    Notes
    -----
    (N, C, H, W) gives (N, C, OH, OW) with ``OH = (H + 2 pad - dilation (pool_h - 1) - 1) // stride + 1``: rounded down. In
    the backward pass the whole gradient of a window goes to its maximum, to the first in row order of equal ones.

    Examples
    --------
    >>> layer = Pooling(2, 2)
    >>> layer.forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    >>> Pooling(size=(2,)).forward(np.array([[[1.0, 2.0, 4.0, 3.0]]]))
    array([[[2., 4.]]])
    """

    def forward(self, x: Array) -> Array:
        """(N, C, OH, OW) for images `x` (N, C, H, W)."""
        return self.forward_fused(x)

    def forward_fused(self, x: Array, train_flg: bool | None = None, **epilogue: Any) -> Array:
        """`forward` with an epilogue of `xpdl.ops.pooling.max_pooling`."""
        self._check(x)
        self.x = x
        self.out, self._taps = ops.max_pooling_with_taps(x, **self._windows(x), **epilogue)
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, C, OH, OW)."""
        return self.backward_fused(dout)

    def backward_fused(self, dout: Array, *, activation: str | None = None) -> Array:
        """`backward` through the activation of `forward_fused`."""
        x, y = self.require_saved(self.x), self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return ops.max_pooling_backward(dout, x, y, **self._windows(x), taps=self._taps, activation=activation)


class AveragePooling(_WindowPooling):
    """The mean of each window; parameters and shapes as in `Pooling`.

    Parameters
    ----------
    count_include_pad : bool
        Whether the zeros of the border are part of the mean, so that every window divides by ``pool_h * pool_w``. Without,
        a window divides by the number of pixels that it has. What `ceil_mode` adds at the end counts in neither case.
    """

    def __init__(
        self,
        pool_h: int | None = None,
        pool_w: int | None = None,
        stride: Option = 2,
        pad: Any = 0,
        *,
        size: Option | None = None,
        dilation: Option = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(pool_h, pool_w, stride, pad, size=size, dilation=dilation, ceil_mode=ceil_mode)
        self.count_include_pad = flag(count_include_pad, "count_include_pad", self.name)

    def forward(self, x: Array) -> Array:
        """(N, C, OH, OW) for images `x` (N, C, H, W)."""
        self._check(x)
        self.x = x
        self.out = ops.average_pooling(x, **self._windows(x))
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, C, OH, OW)."""
        x = self.require_saved(self.x)
        dout = self.require_dout(dout, self.require_saved(self.out).shape, self.out)
        return ops.average_pooling_backward(dout, x, **self._windows(x))

    def _windows(self, x: Array) -> dict[str, Any]:
        windows, counted = super()._windows(x), self.counted_pad(tuple(x.shape[2:]))
        return {**windows, "counted_pad": None if counted == windows["pad"] else counted}

    def counted_pad(self, length: Shape) -> Pads:
        """Return the part of the border that is part of the mean."""
        if not self.count_include_pad:
            return (0,) * len(self.size)
        return resolved(self.pad, length, self._extent, self.stride)


class _GlobalPooling(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.x: Array | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        require_layout(input_shape, None, self.name)
        return (input_shape[0],)

    def _check(self, x: Array) -> None:
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))


class GlobalAveragePooling(_GlobalPooling):
    """The mean of each channel over the whole image: (N, C, H, W) gives (N, C) (arXiv:1312.4400).

    So do signals (N, C, L) and volumes (N, C, D, H, W).
    """

    def forward(self, x: Array) -> Array:
        """(N, C) for images `x` (N, C, H, W)."""
        self._check(x)
        self.x = x
        return ops.global_average_pooling(x)

    def backward(self, dout: Array) -> Array:
        """``dx``: each pixel has an equal share of its channel's `dout` (N, C)."""
        x = self.require_saved(self.x)
        return ops.global_average_pooling_backward(self.require_dout(dout, x.shape[:2], x), x)


class GlobalMaxPooling(_GlobalPooling):
    """The largest value of each channel over the whole image: (N, C, H, W) gives (N, C), and so for signals and volumes.

    In the backward pass the whole gradient of a channel goes to its maximum, to the first in row order of equal ones.
    """

    def forward(self, x: Array) -> Array:
        """(N, C) for images `x` (N, C, H, W)."""
        self._check(x)
        self.x = x
        return ops.global_max_pooling(x)

    def backward(self, dout: Array) -> Array:
        """``dx``: the pixel with the largest value has all of its channel's `dout` (N, C)."""
        x = self.require_saved(self.x)
        return ops.global_max_pooling_backward(self.require_dout(dout, x.shape[:2], x), x)
