"""The residual block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Shape, row_shape
from xpdl.layers.building import stream_for
from xpdl.layers.chain import Chain, described_layers
from xpdl.layers.composite import Composite
from xpdl.layers.config import described
from xpdl.layers.fusion import RELU_LAST, RULES
from xpdl.layers.identity import Identity
from xpdl.layers.relu import Relu
from xpdl.layers.tree import require_tree
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import require_floating
from xpdl.ops.epilogues import before_activation


class Residual(Composite):
    """``y = f(x) + s(x)``: layers in sequence, added to a shortcut (arXiv:1512.03385).

    Parameters
    ----------
    *layers : Layer
        f, in order.
    shortcut : Layer, optional
        s, where f changes the shape, say a strided 1x1 convolution; the identity when not given.
    fuse : bool
        As in `Sequential`, of the layers of f.

    Raises
    ------
    ShapeError
        If f and s give different shapes.
    """

    def __init__(self, *layers: Layer | tuple[str, Layer], shortcut: Layer | None = None, fuse: bool = True) -> None:
        super().__init__()
        if not (shortcut is None or isinstance(shortcut, Layer)):
            raise TypeError(f"{self.name}: shortcut must be a layer, got {shortcut!r}; write Relu() rather than Relu")
        self.body = Chain(*layers, fuse=fuse)
        self.shortcut = Chain(Identity() if shortcut is None else shortcut)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "body", self.body
        yield "shortcut", self.shortcut

    def get_config(self) -> dict[str, Any]:
        return {**self.body.get_config(), "shortcut": next(iter(self.shortcut.layers.values()))}

    def __repr__(self) -> str:
        arguments = dict(self.get_config())
        if isinstance(arguments["shortcut"], Identity):
            del arguments["shortcut"]
        return described(self, arguments, described_layers(arguments.pop("layers")))

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`, both paths."""
        require_tree(self)
        stream = stream_for(self, stream)
        for name, path in self.children():
            path.build(input_shape, stream=stream.child(name), backend=backend)
        return self.output_shape(row_shape(input_shape, self.name))

    def output_shape(self, input_shape: Shape) -> Shape:
        out, short = self.body.output_shape(input_shape), self.shortcut.output_shape(input_shape)
        if out != short:
            raise ShapeError(
                f"{self.name}: the layers give rows of shape {out} but the shortcut {short}; "
                "give a shortcut= layer that changes the shape likewise"
            )
        return out

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """``f(x) + s(x)``; `train_flg` stands for the mode of all layers inside when given."""
        return self.forward_fused(x, train_flg)

    def forward_fused(self, x: Array, train_flg: bool | None = None, *, activation: str | None = None) -> Array:
        """`forward` with an activation after the sum."""
        require_floating(x, self.name)
        self.build_for(x)
        self.output_shape(tuple(x.shape[1:]))
        shortcut = self.shortcut.forward(x, train_flg)
        return self.body.forward_fused(x, train_flg, activation=activation, residual=shortcut)

    def backward(self, dout: Array) -> Array:
        """``dx``, the sum of both paths."""
        return self.backward_fused(dout)

    def backward_fused(
        self, dout: Array, *, y: Array | None = None, activation: str | None = None, need_dx: bool = True
    ) -> Array:
        """`backward` through the activation of `forward_fused`, whose output is `y`; ``dx`` also without `need_dx`."""
        dout = before_activation(dout, y, activation)
        return add(self.body.backward(dout), self.shortcut.backward(dout))


RULES[Residual, Relu] = RELU_LAST
