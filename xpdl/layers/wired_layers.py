"""Layers that a graph connects: their names, the values between them, and the shapes of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from xpdl.backends import Backend
from xpdl.backends.namespaces import array_namespace, is_array, is_floating
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, row_shape
from xpdl.layers.building import stream_for
from xpdl.layers.composite import Composite
from xpdl.layers.dag_wiring import wired
from xpdl.layers.nodes import Input, Node, Shape, arguments, in_order, parts
from xpdl.layers.tree import require_tree


class WiredLayers(Composite):
    """A composition whose layers a graph connects; `Dag` adds the passes, and says what the attributes are."""

    takes_tuple: ClassVar[bool] = True

    def __init__(self, inputs: Any, outputs: Any) -> None:
        super().__init__()
        self.inputs, self.layers, self.uses, self.outputs, self.form = wired(self.name, inputs, outputs)
        for name, layer in self.layers.items():
            layer.set_name(name)
        require_tree(self)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from self.layers.items()

    def takers_of_ids(self, key: Any) -> list[Any]:
        names = list(self.inputs)
        numbers = [names.index(name) for place, name in enumerate(names) if key in (None, name, place)]
        return [
            taker
            for name, taken, _ in self.uses
            for place, value in enumerate(taken)
            if value in numbers
            for taker in self.layers[name].takers_of_ids(place)
        ]

    def get_config(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers.items()),
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "uses": [[name, list(taken), list(given)] for name, taken, given in self.uses],
            "outputs": dict(self.outputs),
            "form": self.form,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make the graph that `get_config` describes, by calls of its layers.

        Raises
        ------
        ValueError, LookupError, TypeError
            If the description is damaged.
        """
        options = dict(config)
        layers, shapes, uses, names, form = (
            options.pop(key) for key in ("layers", "inputs", "uses", "outputs", "form")
        )
        layers, inputs = dict(layers), [Input(shape, name) for name, shape in shapes.items()]
        values: list[Node] = list(inputs)
        for name, taken, given in uses:
            _require_known(cls.__name__, name, taken, len(values))
            found = parts(layers[name](*(values[number] for number in taken), name=name))
            if len(found) != len(given):
                raise ValueError(f"{cls.__name__}: the layer {name!r} gives {len(found)} values, got {len(given)}")
            values += found
        _require_known(cls.__name__, "outputs", list(names.values()), len(values))
        nodes = [values[number] for number in names.values()]
        outputs = dict(zip(names, nodes, strict=True)) if form == "dict" else nodes if form == "tuple" else nodes[0]
        return cls(inputs, outputs, **options)

    def build(self, input_shape: Any = None, *, stream: Stream | None = None, backend: Backend | None = None) -> Any:
        """As in `Layer.build`, layer by layer; shapes are those of the inputs, and need not be given.

        Of several inputs, `input_shape` is a tuple of shapes, or a dict by name.
        """
        require_tree(self)
        stream = stream_for(self, stream)

        def build(name: str, layer: Layer, shapes: Sequence[Any]) -> Any:
            return layer.build(shapes[0] if len(shapes) == 1 else shapes, stream=stream.child(name), backend=backend)

        return self.in_form(self._walk_shapes(input_shape, build))

    def build_for(self, x: Any) -> None:
        if not self.built:
            xs = in_order(x, tuple(self.inputs), self.name, "inputs")
            first = next((one for one in xs if is_array(one) and is_floating(one)), xs[0])
            self.build(backend=Backend.of(first))

    def output_shape(self, input_shape: Any = None) -> Any:
        """The shape of one row of the output, a tuple or dict of them where there are several."""
        return self.in_form(self.shapes(input_shape))

    def shapes(self, input_shape: Any = None) -> list[Shape]:
        """Return the shape of a row of every value, by its number; layers are built.

        Raises
        ------
        ShapeError
            If `input_shape` is not that of the inputs.
        """
        return self._walk_shapes(input_shape, lambda name, layer, shapes: layer.output_shape(*shapes))

    def _walk_shapes(self, input_shape: Any, out: Any) -> list[Shape]:
        shapes = list(self.inputs.values())
        if input_shape is not None:
            given = in_order(input_shape, tuple(self.inputs), self.name, "input shapes")
            for (name, shape), one in zip(self.inputs.items(), given, strict=True):
                _require_shape(self.name, name, row_shape(one, self.name), shape)
        for name, inputs, _ in self.uses:
            layer = self.layers[name]
            shapes += parts(out(name, layer, arguments(layer, [shapes[value] for value in inputs])))
        return shapes

    def in_form(self, values: Any) -> Any:
        """Return the values of the outputs in their form."""
        found = [values[value] for value in self.outputs.values()]
        if self.form == "dict":
            return dict(zip(self.outputs, found, strict=True))
        return tuple(found) if self.form == "tuple" else found[0]

    def require_inputs(self, xs: Sequence[Any]) -> None:
        """Refuse arrays of other shapes than the inputs have, or with different numbers of rows."""
        array_namespace(*xs, owner=self.name)
        for (name, shape), x in zip(self.inputs.items(), xs, strict=True):
            _require_shape(self.name, name, tuple(x.shape[1:]), shape)
            if x.ndim == 0 or x.shape[0] != xs[0].shape[0]:
                rows = [int(one.shape[0]) if one.ndim else 0 for one in xs]
                raise ShapeError(f"{self.name}: the inputs must have the same number of rows, got {rows}")


def _require_shape(owner: str, name: str, got: Shape, shape: Shape) -> None:
    if got != shape:
        raise ShapeError(f"{owner}: the input {name!r} has rows of shape {shape}, got {got}")


def _require_known(owner: str, name: str, numbers: Sequence[int], count: int) -> None:
    """Refuse numbers of values that come later, or not at all."""
    if not all(0 <= number < count for number in numbers):
        raise ValueError(f"{owner}: {name} must take some of the {count} values before, got {numbers}")
