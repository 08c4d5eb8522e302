"""Layers in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, on_its_device
from xpdl.backends.random import Stream, next_stream
from xpdl.layers.base import Layer, Shape, row_shape
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.composite import Composite
from xpdl.layers.rectified import merged, replaced
from xpdl.ops.activations import relu
from xpdl.ops.arithmetic import add


class Chain(Composite):
    """Layers in a row: forward is a loop, backward the same loop reversed.

    Each of `layers` is a layer, or a pair (name, layer). Without a name a layer is called by its class and its number
    among those of the class: ``Affine1``, ``Relu1``, ``Affine2``.
    """

    def __init__(self, *layers: Layer | tuple[str, Layer]) -> None:
        super().__init__()
        self.layers: dict[str, Layer] = {}
        self._merged_from: list[Layer] = []
        self._merged: tuple[Layer, ...] = ()
        counts: dict[str, int] = {}
        for item in layers:
            name, layer = item if isinstance(item, tuple) and len(item) == 2 else ("", item)
            if not (isinstance(layer, Layer) and isinstance(name, str)):
                raise TypeError(
                    f"{self.name}: expected layers or pairs (name, layer), got {item!r}; write Relu() rather than Relu"
                )
            if not name:
                kind = type(layer).__name__
                counts[kind] = counts.get(kind, 0) + 1
                name = f"{kind}{counts[kind]}"
            if name in self.layers:
                raise ValueError(f"{self.name}: two layers are named {name!r}")
            if any(layer is other for other in self.layers.values()):
                raise ValueError(f"{self.name}: the same layer stands in two places; make one for each")
            self.layers[name] = layer
            layer.place(name)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from self.layers.items()

    def get_config(self) -> dict[str, Any]:
        return {"layers": list(self.layers.items())}

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`, layer by layer."""
        stream = stream or next_stream(type(self).__name__)
        shape = row_shape(input_shape, self.name)
        for name, layer in self.layers.items():
            shape = layer.build(shape, stream=stream.child(name), backend=backend)
        return shape

    def output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.layers.values():
            input_shape = layer.output_shape(input_shape)
        return input_shape

    @on_its_device
    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """The output of the last layer; `train_flg` stands for the mode of all layers when given."""
        self.build_for(x)
        for layer in self._steps():
            x = _forward(layer, x, train_flg)
        return x

    @on_its_device
    def forward_to_rectified_sum(self, x: Array, train_flg: bool | None, addend: Array) -> Array:
        """``relu(forward(x) + addend)``, in one with the last layer where that is batch normalisation."""
        self.build_for(x)
        steps = self._steps()
        last = steps[-1] if steps else None
        for layer in steps[:-1]:
            x = _forward(layer, x, train_flg)
        if type(last) is BatchNormalization and not replaced(last):
            return last.forward_rectified(x, train_flg, addend)
        return relu(add(x if last is None else _forward(last, x, train_flg), addend))

    @on_its_device
    def backward(self, dout: Array) -> Array:
        """``dx`` for the input of the first layer; every layer's gradients are filled on the way."""
        for layer in reversed(self._steps()):
            dout = layer.backward(dout)
        return dout

    @on_its_device
    def backward_parameters(self, dout: Array) -> None:
        layers = self._steps()
        # nothing before the first layer with parameters needs a gradient
        first = next((i for i, layer in enumerate(layers) if any(layer.slots("params"))), len(layers))
        for layer in reversed(layers[first + 1 :]):
            dout = layer.backward(dout)
        if first < len(layers):
            layers[first].backward_parameters(dout)

    def _steps(self) -> Sequence[Layer]:
        """The layers, some neighbours as one."""
        layers = list(self.layers.values())
        # others may have been put into the dict since, or methods into layers
        seen = layers + [layer for layer in layers if replaced(layer)]
        if seen != self._merged_from:
            self._merged_from, self._merged = seen, tuple(merged(layers))
        return self._merged


def _forward(layer: Layer, x: Array, train_flg: bool | None) -> Array:
    return layer.forward(x, train_flg) if layer.has_modes else layer.forward(x)  # type: ignore[call-arg]
