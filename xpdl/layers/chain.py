"""Layers in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, on_its_device
from xpdl.backends.random import Stream
from xpdl.layers.base import Layer, Shape, row_shape
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.building import stream_for
from xpdl.layers.composite import Composite
from xpdl.layers.config import described
from xpdl.layers.fusion import FusedStep
from xpdl.layers.fusion import fuse as fused
from xpdl.layers.tree import forward_in_mode, require_tree
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import flag


class Chain(Composite):
    """Layers in a row: forward is a loop, backward the same loop reversed.

    Each of `layers` is a layer, or a pair (name, layer). Without a name a layer is called by its class and its number
    among those of the class: ``Affine1``, ``Relu1``, ``Affine2``. With ``fuse=False`` each is called by itself.

    Attributes
    ----------
    after_backward : callable, optional
        ``after_backward(name, layer)`` is called in each backward pass, from the last layer to the first, when the gradients
        of a layer are there. They can be sent elsewhere while those of the layers before it are computed.
    """

    after_backward: Callable[[str, Layer], None] | None = None

    def __init__(self, *layers: Layer | tuple[str, Layer], fuse: bool = True) -> None:
        super().__init__()
        self.layers: dict[str, Layer] = {}
        self.fuse = flag(fuse, "fuse", self.name)
        self._steps: tuple[Layer, ...] = ()
        self._steps_of: list[Any] = []
        counts: dict[str, int] = {}
        for item in layers:
            name, layer = item if isinstance(item, tuple) and len(item) == 2 else ("", item)
            if not (isinstance(layer, Layer) and isinstance(name, str)):
                raise TypeError(f"{self.name}: expected layers or pairs (name, layer), got {item!r}; {_cure(item)}")
            if not name:
                kind = type(layer).__name__
                counts[kind] = counts.get(kind, 0) + 1
                name = f"{kind}{counts[kind]}"
            if name in self.layers:
                raise ValueError(f"{self.name}: two layers are named {name!r}")
            if any(layer is other for other in self.layers.values()):
                raise ValueError(f"{self.name}: the same layer stands in two places; make one for each")
            require_tree(layer)
            self.layers[name] = layer
            layer.set_name(name)

    def children(self) -> Iterator[tuple[str, Layer]]:
        return iter(self.layers.items())

    def get_config(self) -> dict[str, Any]:
        return {"layers": list(self.layers.items()), "fuse": self.fuse}

    def __repr__(self) -> str:
        arguments = dict(self.get_config())
        return described(self, arguments, described_layers(arguments.pop("layers", ())))

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`, layer by layer."""
        require_tree(self)
        stream = stream_for(self, stream)
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
        return _forward(self.steps(), x, train_flg)

    @on_its_device
    def forward_fused(
        self, x: Array, train_flg: bool | None = None, *, residual: Array, activation: str | None = None
    ) -> Array:
        """``forward(x) + residual``, or relu of it: by the last layer, where that is batch normalization."""
        self.build_for(x)
        steps = self.steps()
        if self.fuse and steps and type(steps[-1]) is BatchNormalization:
            x = _forward(steps[:-1], x, train_flg)
            return steps[-1].forward_fused(x, train_flg, residual=residual, activation=activation)
        return add(_forward(steps, x, train_flg), residual, activation=activation)

    @on_its_device
    def backward(self, dout: Array) -> Array:
        """``dx`` for the input of the first layer; every layer's gradients are filled on the way."""
        for layer in reversed(self.steps()):
            dout = layer.backward(dout)
            if self.after_backward is not None:
                self._tell_of(self.after_backward, layer)
        return dout

    @on_its_device
    def backward_parameters(self, dout: Array) -> None:
        layers = self.steps()
        # nothing before the first layer with parameters to train needs a gradient
        first = 0
        while first < len(layers) and not layers[first].trains:
            first += 1
        for layer in reversed(layers[first + 1 :]):
            dout = layer.backward(dout)
            if self.after_backward is not None:
                self._tell_of(self.after_backward, layer)
        if first < len(layers):
            layers[first].backward_parameters(dout)
            if self.after_backward is not None:
                self._tell_of(self.after_backward, layers[first])

    def _tell_of(self, after_backward: Callable[[str, Layer], None], step: Layer) -> None:
        """Call `after_backward` for the layers of a step."""
        inside = step.layers if isinstance(step, FusedStep) else (step,)
        for name, layer in reversed(self.layers.items()):
            if any(layer is one for one in inside):
                after_backward(name, layer)

    def savers(self) -> Iterator[Any]:
        yield from super().savers()
        yield from (step for step in self.steps() if isinstance(step, FusedStep))

    def steps(self) -> tuple[Layer, ...]:
        """Return the steps of `forward` in order: layers, and a ``FusedStep`` for neighbours that are computed as one.

        Its attribute ``layers`` has those neighbours. `backward` goes through the same steps from the last to the first.
        """
        layers = list(self.layers.values())
        # others may have been put into the dict since
        if self._steps_of != [self.fuse, *layers]:
            self._steps_of, self._steps = [self.fuse, *layers], tuple(fused(layers) if self.fuse else layers)
        return self._steps


def _cure(item: Any) -> str:
    if isinstance(item, (list, tuple)) and any(isinstance(one, Layer) for one in item):
        return "pass them one by one, with a star in front: *layers"
    if isinstance(item, type) and issubclass(item, Layer):
        return f"write {item.__name__}() rather than {item.__name__}"
    return "derive a class of your own from xpdl.Layer"


def described_layers(layers: Iterable[tuple[str, Layer]]) -> list[str]:
    """Each layer as it would be written: with its name where that is not made of its class and number."""
    counts: dict[str, int] = {}
    words = []
    for name, layer in layers:
        kind = type(layer).__name__
        counts[kind] = counts.get(kind, 0) + 1
        words.append(repr(layer) if name == f"{kind}{counts[kind]}" else f"({name!r}, {layer!r})")
    return words


def _forward(steps: Sequence[Any], x: Array, train_flg: bool | None) -> Array:
    for step in steps:
        x = step.forward(x, train_flg) if step.accepts_train_flg else forward_in_mode(step, x, train_flg)
    return x
