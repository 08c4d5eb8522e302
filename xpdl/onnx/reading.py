"""The nodes of an untrusted graph, read as layers one after the other."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, ValueInfoProto

from xpdl.onnx.folding import depends_on_rows, fold, shape_of
from xpdl.onnx.importers import IMPORTERS
from xpdl.onnx.nodes import Given, Missing, Node, Signal, constant
from xpdl.onnx.source import FLOATS, Constants, Damaged, HostArray, Memory, Unmapped, short
from xpdl.onnx.steps import Row, Step

_MOST_NODES = 10_000
_MOST_PROBLEMS = 5
_CURE = "read the layers before it, with output={}"


class GraphReader:
    """Reads the nodes of a graph in order.

    Parameters
    ----------
    proto : onnx.ModelProto
    folder : Path
        Of the file; external data lie in it.
    input_shape : tuple of int, optional
        Of one row, where it is not that of the file.

    Attributes
    ----------
    input : Signal
    class_names : list of str or None
    """

    def __init__(self, proto: ModelProto, folder: Path, input_shape: Row | None) -> None:
        self.class_names: list[str] | None = None
        self._graph = proto.graph
        self._constants = Constants(folder, Memory(proto.ByteSize()), self._graph.initializer)
        self._opset = max((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), default=1)
        self._values: dict[str, Signal | Any] = {}
        if len(self._graph.node) > _MOST_NODES:
            raise Unmapped(f"it has {len(self._graph.node):,} nodes, and {_MOST_NODES:,} are read")
        self.input = self._place_inputs(input_shape)
        for number, one in enumerate(self._graph.node):
            if one.output:
                self._read(Node(one, number, self._opset))

    def weights(self, value: Given, what: str) -> HostArray:
        """Return a constant as floats that a layer may own."""
        array = constant(value, what)
        if array.dtype.kind in "biu":
            raise Unmapped(f"its {what} are integers ({array.dtype})")
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        self._constants.memory.take(array.size * dtype.itemsize)
        return np.array(array, dtype, order="C")

    def output(self, name: str | None) -> Signal:
        """Return a value of the graph, by default the first output with floats.

        Raises
        ------
        Unmapped
            If it depends on nodes that do not map, or not on the input.
        """
        name = self._output_name() if name is None else name
        value = self._values.get(name)
        if isinstance(value, Missing):
            raise Unmapped(" | ".join(value.problems))
        if not isinstance(value, Signal):
            outputs = ", ".join(short(one.name) for one in self._graph.output[:10])
            raise Unmapped(f"the value {short(str(name))} is not computed from the input", f"outputs are {outputs}")
        if value.order is not None or [axis for axis in value.axes if axis >= 0] != [*range(len(value.step.shape))]:
            raise Unmapped(f"the axes of the output {short(name)} are in another order than in xpdl")
        return value

    def _place_inputs(self, input_shape: Row | None) -> Signal:
        given = [one for one in self._graph.input if one.name not in self._constants]
        if not given:
            raise Unmapped("its graph has no input")
        for other in given[1:]:
            reason = f"the input {short(other.name)} is one of {len(given)}, and a Sequential takes one"
            self._values[other.name] = Missing((f"{reason}; store it as an initializer of the file",))
        first, row = given[0], _row(given[0], input_shape)
        axes = _axes_of_input(first.name, self._graph, len(row))
        if input_shape is None:
            row = tuple(row[axes.index(axis)] for axis in range(len(row)))
        self._values[first.name] = Signal(Step(first.name, None, shape=row), axes)
        found: Signal = self._values[first.name]
        return found

    def _read(self, node: Node) -> None:
        """Add what a node gives to the values."""
        values: list[Any] = [self._value(name, node) for name in node.inputs]
        while values and values[-1] is None:
            values.pop()
        try:
            owed = [value for value in values if isinstance(value, Missing)]
            if owed:
                problems = dict.fromkeys(problem for value in owed for problem in value.problems)
                found: Any = Missing(tuple(problems)[:_MOST_PROBLEMS])
            else:
                found = self._result(node, values)
        except Unmapped as error:
            found = Missing((_problem(node, error, self._values),))
        except (ValueError, TypeError) as error:  # of a constructor, for what the file says
            found = Missing((_problem(node, Unmapped(" ".join(str(error).split())), self._values),))
        for i, name in enumerate(node.outputs):
            if name:
                more = Missing((f"{node.label}: its output {short(name)} beside the first has no counterpart",))
                self._values[name] = found if i == 0 or isinstance(found, Missing) else more

    def _result(self, node: Node, values: list[Given]) -> Given:
        if node.kind == "Shape":
            return shape_of(node, values[0] if values else None)
        if not depends_on_rows(values):
            return fold(node, values, self._constants)
        if node.kind not in IMPORTERS:
            raise Unmapped("xpdl has no layer for it")
        importer = IMPORTERS[node.kind]
        try:
            inspect.signature(importer).bind(node, self, *values)
        except TypeError:
            raise Damaged(f"{node.label}: the operator takes another number of inputs than {len(values)}") from None
        return importer(node, self, *values)

    def _value(self, name: str, node: Node) -> Any:
        if not name:
            return None
        if name not in self._values:
            if name not in self._constants:
                raise Damaged(f"{node.label}: its input {short(name)} is computed by no node before it")
            try:
                self._values[name] = self._constants[name]
            except Unmapped as error:
                self._values[name] = Missing((f"{node.label}: {error.reason}",))
        return self._values[name]

    def _output_name(self) -> str:
        if not self._graph.output:
            raise Damaged("its graph has no output")
        # scikit-learn's first output is the label; a map has the probabilities
        found = [one for one in self._graph.output if _has_floats(one)]
        name: str = (found or self._graph.output)[0].name
        return name


def _problem(node: Node, error: Unmapped, values: dict[str, Any]) -> str:
    before = next((name for name in node.inputs if isinstance(values.get(name), Signal)), None)
    cure = error.cure or (_CURE.format(short(before)) if before else "")
    return f"{node.label}: {error.reason}{f'; {cure}' if cure else ''}"


def _row(value: ValueInfoProto, input_shape: Row | None) -> Row:
    """Return the shape of a row of an input; 0 and names stand for sizes that are not known."""
    if value.type.WhichOneof("value") not in ("tensor_type", None):
        raise Unmapped(f"the input {short(value.name)} is no array")
    tensor = value.type.tensor_type
    if input_shape is not None:
        return input_shape
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise Unmapped(f"the shape of the input {short(value.name)} is not in it", "give input_shape=(1, 28, 28)")
    if len(tensor.shape.dim) > 8:
        raise Unmapped(f"the input {short(value.name)} has {len(tensor.shape.dim)} axes")
    return tuple(one.dim_value if one.dim_value > 0 else None for one in tensor.shape.dim[1:])


# nodes that do not mind the order of axes
_ANY_LAYOUT = {"Identity", "Cast", "Relu", "Sigmoid", "Tanh", "Dropout", "Mul", "Add", "Sub", "Div"}


def _axes_of_input(name: str, graph: GraphProto, rank: int) -> tuple[int, ...]:
    """Return the axes of the input: those of xpdl, unless the file transposes it first."""
    plain = tuple(range(rank))
    uses = Counter(one for node in graph.node for one in node.input)
    for node in graph.node:
        if name not in node.input or uses[name] > 1:
            continue
        if node.op_type == "Transpose":
            perm = next((tuple(one.ints) for one in node.attribute if one.name == "perm"), ())
            if sorted(perm) == list(range(rank + 1)) and perm[0] == 0:
                return tuple(perm.index(axis + 1) - 1 for axis in plain)
        if node.op_type not in _ANY_LAYOUT or not node.output:
            break
        name = node.output[0]
    return plain


def _has_floats(value: ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind == "sequence_type" or (kind == "tensor_type" and value.type.tensor_type.elem_type in FLOATS)
