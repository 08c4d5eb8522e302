"""The graph of an ONNX file while it is made: nodes in the order of computation, and constants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, helper

from xpdl.backends.conversion import to_numpy
from xpdl.layers.base import Layer, Shape
from xpdl.layers.nodes import arguments, is_several, parts
from xpdl.onnx.source import HostArray

#: version of the operators, which runtimes know since 2022
OPSET = 17

# (layer, graph, *inputs) -> output
Exporter = Callable[..., Any]


class Value(NamedTuple):
    """An array of the graph.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one row, without the batch axis; of a constant, its whole shape.
    """

    name: str
    shape: Shape


class Graph:
    """Nodes and constants; what the method ``to_onnx(graph, x)`` of a layer of one's own writes to.

    Parameters
    ----------
    model : Layer
        Its parameters and running statistics keep their names.
    dtype : numpy dtype
        Of all floating constants.
    find : function
        Layer -> its exporter ``(layer, graph, *inputs) -> Value``, or None.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    constants : dict of str to numpy array
    booleans : set of str
        Names of inputs that are masks.
    """

    def __init__(self, model: Layer, dtype: np.dtype[Any], find: Callable[[Any], Exporter | None]) -> None:
        self.dtype = dtype
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.booleans: set[str] = set()
        # of each layer, by dtype, shape and values
        self._own_constants: dict[str, dict[tuple[Any, ...], Value]] = {}
        self._find = find
        self._layer = model.name
        aliases = getattr(model, "aliases", {})
        self._parameters = {
            (id(owner), key): aliases.get(path, path)
            for kind in ("params", "state")
            for path, owner, key in model.named(kind)
        }
        self._taken = set(self._parameters.values())

    def node(self, kind: str, *inputs: Value, shape: Shape | None = None, place: int = 0, **attributes: Any) -> Value:
        """Add a node with one output, and return that.

        Parameters
        ----------
        kind : str
            An operator of ONNX, such as ``"Relu"``.
        *inputs : Value
        shape : tuple of int, optional
            Of one row of the output; that of the first input by default.
        place : int
            Of the output among those of the operator.
        **attributes
            Of the operator.

        Returns
        -------
        Value
        """
        name = self.fresh(self._layer)
        self._append(kind, inputs, [*[""] * place, name], attributes)
        return Value(name, inputs[0].shape if shape is None else shape)

    def nodes_of(self, kind: str, inputs: Sequence[Value], count: int, **attributes: Any) -> list[Value]:
        """Add a node with several outputs, and return these; their shapes are those of the first input."""
        names = [self.fresh(self._layer) for _ in range(count)]
        self._append(kind, inputs, names, attributes)
        return [Value(name, inputs[0].shape) for name in names]

    def _append(self, kind: str, inputs: Sequence[Value], outputs: list[str], attributes: Mapping[str, Any]) -> None:
        for one in inputs:
            if not isinstance(one, Value):
                raise TypeError(
                    f"{self._layer}: inputs of the node {kind} must be values of the graph, got {type(one).__name__}; "
                    "make constants with graph.constant(array) and graph.parameter(self, key)"
                )
        node = helper.make_node(kind, [one.name for one in inputs], outputs, name=outputs[-1], **attributes)
        self.nodes.append(node)

    def parameter(self, layer: Layer, key: str) -> Value:
        """Return a parameter or running statistic of a layer as a constant, under its name in the model."""
        kind = "params" if key in layer.own("params") else "state"
        owner = layer.own(kind)
        if key not in owner:
            raise KeyError(
                f"{layer.name}: has no parameter {key!r}, only {[*layer.own('params'), *layer.own('state')]}"
            )
        return self._constant(self._parameters[id(owner), key], to_numpy(owner[key]))

    def constant(self, values: Any, dtype: Any = None) -> Value:
        """Return an array or a number as a constant, of that dtype; floats by default in the dtype of the model.

        Equal constants of one layer are one, so that a layer in several places has its weights once in the file.
        """
        array = self._converted(np.asarray(values), dtype)
        known = self._own_constants.setdefault(self._layer, {})
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in known:
            known[key] = self._constant(self.fresh(f"{self._layer}.constant"), array, array.dtype)
        return known[key]

    def add(self, layer: Any, *inputs: Value) -> Any:
        """Add the nodes of a layer, say of one inside, and return its output, a tuple of values where it has several.

        Raises
        ------
        TypeError
            If nothing says how the layer is exported.
        """
        name = getattr(layer, "name", type(layer).__name__)
        exporter = self._find(layer)
        if exporter is None:
            raise TypeError(
                f"{name}: nothing says how a {type(layer).__name__} is exported to ONNX; define to_onnx(self, graph, x) "
                "in its class"
            )
        shapes = [one.shape for one in inputs]
        out = layer.output_shape(*arguments(layer, shapes)) if isinstance(layer, Layer) else shapes[0]
        outer, self._layer = self._layer, name
        output = exporter(layer, self, *inputs)
        self._layer = outer
        outputs = [output] if isinstance(output, Value) else output
        if not (isinstance(outputs, (list, tuple)) and all(isinstance(one, Value) for one in outputs)):
            raise TypeError(
                f"{name}: to_onnx must return a value of the graph, as graph.node(...) does, got {type(output).__name__}"
            )
        found = tuple(Value(one.name, shape) for one, shape in zip(outputs, parts(out), strict=True))
        return found if is_several(out) else found[0]

    def fresh(self, name: str) -> str:
        """Return `name`, with a number where it is taken, and take it."""
        number, free = 1, name
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def rename(self, old: str, new: str) -> None:
        """Rename the output of a node wherever it stands."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    def _constant(self, name: str, array: HostArray, dtype: Any = None) -> Value:
        self.constants[name] = array = self._converted(array, dtype)
        return Value(name, array.shape)

    def _converted(self, array: HostArray, dtype: Any = None) -> HostArray:
        return np.asarray(array, dtype=dtype or (self.dtype if array.dtype.kind == "f" else None), order="C")
