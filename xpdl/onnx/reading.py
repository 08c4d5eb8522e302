"""The nodes of an untrusted graph, read as steps one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto

from xpdl.onnx.arranging import arranged
from xpdl.onnx.folding import depends_on_rows, fold, shape_of
from xpdl.onnx.importers import IMPORTERS
from xpdl.onnx.inputs import InputShapes, inputs_of
from xpdl.onnx.nodes import BATCH, ONE, Given, Missing, Node, Signal, constant
from xpdl.onnx.sharing import Origins, SharedLayers
from xpdl.onnx.source import FLOATS, Constants, Damaged, HostArray, Memory, Unmapped, short
from xpdl.onnx.steps import Step

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
    input_shapes : dict of str to tuple of int
        Of one row, where they are not those of the file.
    batched : bool
        Whether the first axis of each input is that of a batch.

    Attributes
    ----------
    inputs : dict of str to Signal
    class_names : list of str or None
    booleans : set of str
        Names of inputs that are masks.
    tables : list of (array, Step)
        Constants that rows are looked up in.
    channels_last : bool
        Whether the file transposes an input from (N, H, W, C).
    """

    def __init__(self, proto: ModelProto, folder: Path, input_shapes: InputShapes, batched: bool = True) -> None:
        self.class_names: list[str] | None = None
        self._graph = proto.graph
        self._constants = Constants(folder, Memory(proto.ByteSize()), self._graph.initializer)
        self._opset = max((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), default=1)
        self._values: dict[str, Signal | Any] = {}
        self._shared = SharedLayers()
        self._origins = Origins(self._values)
        self.tables: list[tuple[HostArray, Step]] = []
        self._used = {name for node in self._graph.node for name in node.input}
        self._used |= {one.name for one in self._graph.output}
        if len(self._graph.node) > _MOST_NODES:
            raise Unmapped(f"it has {len(self._graph.node):,} nodes, and {_MOST_NODES:,} are read")
        self._values.update(inputs_of(proto, self._constants, input_shapes, batched))
        self.inputs = {name: x for name, x in self._values.items() if isinstance(x, Signal)}
        self.booleans = {one.name for one in self._graph.input if one.type.tensor_type.elem_type == TensorProto.BOOL}
        self.channels_last = any(not x.is_plain for x in self.inputs.values())
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

    def is_used(self, name: str) -> bool:
        """Return whether a node takes a value, or it is an output."""
        return name != "" and name in self._used

    def constant_of(self, name: str) -> HostArray | None:
        """Return the one constant of the file that a value is, or is a part of."""
        return self._origins.constant_of(name)

    def outputs(self, names: Sequence[str] | None) -> dict[str, Signal]:
        """Return values of the graph, by default all outputs with floats.

        Raises
        ------
        Unmapped
            If one depends on nodes that do not map, or not on the input.
        """
        return {name: self._output(name) for name in (self._output_names() if names is None else names)}

    def _output(self, name: str) -> Signal:
        value = self._values.get(name)
        if isinstance(value, Missing):
            raise Unmapped(" | ".join(value.problems))
        if not isinstance(value, Signal):
            outputs = ", ".join(short(one.name) for one in self._graph.output[:10])
            raise Unmapped(f"the value {short(str(name))} is not computed from the input", f"outputs are {outputs}")
        return _in_rows(name, value)

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
        except (ValueError, TypeError, OverflowError) as error:  # of a constructor, for what the file says
            found = Missing((_problem(node, Unmapped(" ".join(str(error).split())), self._values),))
        several = found if type(found) is tuple else (found,)
        for place, name in enumerate(node.outputs):
            value = found if isinstance(found, Missing) else several[place] if place < len(several) else None
            if value is None:
                value = Missing((f"{node.label}: its output {short(name)} has no counterpart",))
            if name:
                self._values[name] = value

    def _result(self, node: Node, values: list[Given]) -> Given | tuple[Signal | None, ...]:
        if node.kind == "Shape":
            return shape_of(node, values[0] if values else None)
        if not depends_on_rows(values):
            self._origins.add(node)
            return fold(node, values, self._constants)
        if node.kind not in IMPORTERS:
            raise Unmapped("xpdl has no layer for it")
        importer = IMPORTERS[node.kind]
        try:
            inspect.signature(importer).bind(node, self, *values)
        except TypeError:
            raise Damaged(f"{node.label}: the operator takes another number of inputs than {len(values)}") from None
        found = importer(node, self, *values)
        self._shared.share(node, values, self._origins.of(node.inputs), found if isinstance(found, tuple) else [found])
        return found

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

    def _output_names(self) -> list[str]:
        if not self._graph.output:
            raise Damaged("its graph has no output")
        # scikit-learn's first output is the label; a map has the probabilities
        found = [one.name for one in self._graph.output if _has_floats(one)]
        return found or [self._graph.output[0].name]


def _problem(node: Node, error: Unmapped, values: dict[str, Any]) -> str:
    before = next((name for name in node.inputs if isinstance(values.get(name), Signal)), None)
    cure = error.cure or (_CURE.format(short(before)) if before else "")
    return f"{node.label}: {error.reason}{f'; {cure}' if cure else ''}"


def _in_rows(name: str, x: Signal) -> Signal:
    """Return an output with its axes in the order of the file; axes of size 1 alone may be others."""
    batch = x.axes.index(BATCH) if BATCH in x.axes else 0
    if any(axis != ONE for axis in x.axes[:batch]):
        raise Unmapped(f"the output {short(name)} has other axes before that of the rows")
    if x.order is None and x.real == [*range(len(x.step.shape))]:
        return x
    try:
        return arranged(name, x)
    except Unmapped as error:
        raise Unmapped(f"the output {short(name)}: {error.reason}", error.cure) from None


def _has_floats(value: ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind == "sequence_type" or (kind == "tensor_type" and value.type.tensor_type.elem_type in FLOATS)
