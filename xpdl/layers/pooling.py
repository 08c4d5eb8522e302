"""Pooling layers: maximum and average, of windows and of whole images."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.backends.namespaces import Array
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape
from xpdl.ops import pooling as ops
from xpdl.ops.checks import pair, require_floating
from xpdl.ops.windows import output_sizes


class _WindowPooling(Layer):
    saved_names: ClassVar[tuple[str, ...]] = ("x", "out", "_taps")

    def __init__(
        self, pool_h: int, pool_w: int, stride: int | tuple[int, int] = 2, pad: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.size = pair((pool_h, pool_w), "pool_h, pool_w", self.name, 1)
        self.stride = pair(stride, "stride", self.name, 1)
        self.pad = pair(pad, "pad", self.name, 0)
        if self.pad[0] >= self.size[0] or self.pad[1] >= self.size[1]:
            raise ShapeError(
                f"{self.name}: pad {self.pad} must be smaller than the window {self.size}: a window in the border alone "
                "has no value"
            )
        self.x: Array | None = None
        self.out: Array | None = None
        self._taps: Array | None = None

    pool_h = property(lambda self: self.size[0], doc="Height of the window.")
    pool_w = property(lambda self: self.size[1], doc="Width of the window.")

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(f"{self.name}: expected images (N, C, H, W), got rows of shape {input_shape}")
        channels, height, width = input_shape
        return (channels, *output_sizes((height, width), self.size, self.stride, self.pad, (1, 1), self.name))

    def _check(self, x: Array) -> None:
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))


class Pooling(_WindowPooling):
    """Max pooling: the largest value of each window (the book's ch. 7.3).

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride : int or pair of ints
        Step between windows.
    pad : int or pair of ints
        Border on each side, smaller than the window. It counts as -inf and never wins; the book pads with 0, which wins
        over negative activations.

    Raises
    ------
    ShapeError
        If the window does not fit the padded image, or an argument is out of range.

    Notes
    -----
    (N, C, H, W) gives (N, C, OH, OW) with ``OH = (H + 2 pad - pool_h) // stride + 1``: rounded down. In the backward pass
    the whole gradient of a window goes to its maximum, to the first in row order of equal ones.

    Examples
    --------
    >>> layer = Pooling(2, 2)
    >>> layer.forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    def forward(self, x: Array) -> Array:
        """(N, C, OH, OW) for images `x` (N, C, H, W)."""
        return self.forward_fused(x)

    def forward_fused(self, x: Array, train_flg: bool | None = None, **epilogue: Any) -> Array:
        """`forward` with an epilogue of `xpdl.ops.pooling.max_pooling`."""
        self._check(x)
        self.x = x
        self.out, self._taps = ops.max_pooling_with_taps(x, self.size, self.stride, self.pad, **epilogue)
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, C, OH, OW)."""
        return self.backward_fused(dout)

    def backward_fused(self, dout: Array, *, activation: str | None = None) -> Array:
        """`backward` through the activation of `forward_fused`."""
        x, y = self.require_saved(self.x), self.require_saved(self.out)
        dout = self.require_dout(dout, y.shape, y)
        return ops.max_pooling_backward(dout, x, y, self.size, self.stride, self.pad, self._taps, activation=activation)


class AveragePooling(_WindowPooling):
    """The mean of each window; parameters and shapes as in `Pooling`.

    The border counts as zeros that are part of the mean: every window divides by ``pool_h * pool_w``.
    """

    def forward(self, x: Array) -> Array:
        """(N, C, OH, OW) for images `x` (N, C, H, W)."""
        self._check(x)
        self.x = x
        self.out = ops.average_pooling(x, self.size, self.stride, self.pad)
        return self.out

    def backward(self, dout: Array) -> Array:
        """``dx`` in the shape of the input for `dout` (N, C, OH, OW)."""
        x = self.require_saved(self.x)
        dout = self.require_dout(dout, self.require_saved(self.out).shape, self.out)
        return ops.average_pooling_backward(dout, x, self.size, self.stride, self.pad)


class _GlobalPooling(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.x: Array | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(f"{self.name}: expected images (N, C, H, W), got rows of shape {input_shape}")
        return (input_shape[0],)

    def _check(self, x: Array) -> None:
        require_floating(x, self.name)
        self.output_shape(tuple(x.shape[1:]))


class GlobalAveragePooling(_GlobalPooling):
    """The mean of each channel over the whole image: (N, C, H, W) gives (N, C) (arXiv:1312.4400)."""

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
    """The largest value of each channel over the whole image: (N, C, H, W) gives (N, C).

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
