"""Nodes of graphs, and of layers that join and rearrange values: part of the table of exporters."""

from __future__ import annotations

import numpy as np

from xpdl.backends.conversion import to_numpy
from xpdl.layers.dag import Dag
from xpdl.layers.merging import Add, Concatenate, Multiply
from xpdl.layers.rearranging import Permute, Reshape, Slice
from xpdl.layers.scale_shift import ScaleShift
from xpdl.onnx.graph import Exporter, Graph, Value


def _dag(layer: Dag, graph: Graph, *inputs: Value) -> Value | tuple[Value, ...]:
    values = list(inputs)
    for name, taken, _ in layer.uses:
        found = graph.add(layer.layers[name], *(values[number] for number in taken))
        values += [found] if isinstance(found, Value) else found
    outputs = tuple(values[number] for number in layer.outputs.values())
    return outputs[0] if layer.form == "array" else outputs


def _multiply(layer: Multiply, graph: Graph, *inputs: Value) -> Value:
    y = inputs[0]
    for x in inputs[1:]:
        y = graph.node("Mul", y, x)
    return y


def _concatenate(layer: Concatenate, graph: Graph, *inputs: Value) -> Value:
    return graph.node("Concat", *inputs, axis=layer.axis)


def _reshape(layer: Reshape, graph: Graph, x: Value) -> Value:
    return graph.node("Reshape", x, graph.constant(np.array([-1, *layer.output_shape(x.shape)])))


def _permute(layer: Permute, graph: Graph, x: Value) -> Value:
    return graph.node("Transpose", x, perm=[0, *layer.axes])


def _slice(layer: Slice, graph: Graph, x: Value) -> Value:
    axis, start, stop = layer.bounds((0, *x.shape))
    return graph.node("Slice", x, *(graph.constant(np.array([number])) for number in (start, stop, axis)))


def _add(layer: Add, graph: Graph, *inputs: Value) -> Value:
    return graph.node("Sum", *inputs)


def _scale_shift(layer: ScaleShift, graph: Graph, x: Value) -> Value:
    for kind, key, nothing in (("Mul", "scale", 1), ("Add", "shift", 0)):
        if (to_numpy(layer.state[key]) != nothing).any():
            x = graph.node(kind, x, graph.parameter(layer, key))
    return x


OF_GRAPHS: dict[type, Exporter] = {
    Add: _add,
    Concatenate: _concatenate,
    Dag: _dag,
    Multiply: _multiply,
    Permute: _permute,
    Reshape: _reshape,
    ScaleShift: _scale_shift,
    Slice: _slice,
}
