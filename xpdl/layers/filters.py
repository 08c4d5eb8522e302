"""Base of layers with filters: their arguments, and what they save."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends.namespaces import Array
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape, array_of_zero, gradient, parameter, require_drawn, require_parameters
from xpdl.layers.layouts import rank_of, require_layout
from xpdl.ops.checks import along_axes, flag, positive_int
from xpdl.ops.padding import padding


class FilterLayer(Layer):
    """A layer whose `W` holds filters (..., FH, FW), the axis `_FILTERS_AXIS` of which counts the channels of its output."""

    W, b = parameter("W"), parameter("b")
    dW, db = gradient("W"), gradient("b")

    saved_names: ClassVar[tuple[str, ...]] = ("x", "_out_size")
    _FILTERS_AXIS: ClassVar[int]
    #: of `W`, for messages
    _LAYOUT: ClassVar[str]

    def __init__(
        self,
        W: Array | None = None,
        b: Array | float | None = None,
        stride: int | tuple[int, ...] = 1,
        pad: Any = 0,
        *,
        filters: int | None = None,
        size: int | tuple[int, ...] | None = None,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        init: Any = "he",
        use_bias: bool = True,
    ) -> None:
        super().__init__()
        self.groups = positive_int(groups, "groups", self.name)
        if W is None:
            if filters is None or size is None or b is not None:
                raise ShapeError(f"{self.name}: give the array W (and b), or filters=16, size=3")
            self.filters = positive_int(filters, "filters", self.name)
            self.size = along_axes(size, "size", self.name, 1, rank_of(size, self.name))
        else:
            if filters is not None or size is not None:
                raise ShapeError(f"{self.name}: filters and size follow from W; give either them or W")
            self._take(W, b)
        rank = len(self.size)
        self.stride = along_axes(stride, "stride", self.name, 1, rank)
        self.pad = padding(pad, rank, self.name)
        self.dilation = along_axes(dilation, "dilation", self.name, 1, rank)
        self._extent = tuple(gap * (taps - 1) + 1 for taps, gap in zip(self.size, self.dilation, strict=True))
        if self.filters % self.groups:
            raise ShapeError(f"{self.name}: {self.filters} filters do not divide into {self.groups} groups")
        initializers.resolve(init, f"{self.name}: init")
        flag(use_bias, "use_bias", self.name)
        if W is not None:
            require_drawn(self.name, init, use_bias, b)
        self.init = init
        self.use_bias = use_bias if W is None else self.b is not None
        self.x: Array | None = None
        self._out_size: tuple[int, ...] | None = None

    def _take(self, W: Array, b: Any) -> None:
        """Use arrays that are given."""
        axis = self._FILTERS_AXIS
        groups = self.groups if axis else 1
        b = array_of_zero(b, W, axis, groups)
        require_parameters(self.name, W=W, b=b)
        if W.ndim not in (3, 4, 5) or (b is not None and tuple(b.shape) != (W.shape[axis] * groups,)):
            raise ShapeError(
                f"{self.name}: W must be {self._LAYOUT}, with one size for signals and three for volumes, and b (FN,), got "
                f"{tuple(W.shape)} and {None if b is None else tuple(b.shape)}"
            )
        self.filters, self.size = W.shape[axis] * groups, tuple(W.shape[2:])
        self.params = {"W": W} if b is None else {"W": W, "b": b}

    def _length(self, input_shape: Shape, channels: int | None) -> Shape:
        """Check rows of `input_shape` against the `channels` that `W` has, and return their axes behind the channels."""
        require_layout(input_shape, len(self.size), self.name)
        found = input_shape[0]
        if found % self.groups:
            raise ShapeError(f"{self.name}: {found} channels do not divide into {self.groups} groups")
        if channels is not None and found != channels:
            raise ShapeError(
                f"{self.name}: expected {channels} channels, as W {tuple(self.W.shape)} in {self.groups} group(s) has, got "
                f"rows of shape {input_shape}"
            )
        return input_shape[1:]
