"""Inputs of a graph: which axes of theirs a row has in xpdl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from onnx import GraphProto, ModelProto, ValueInfoProto

from xpdl.layers.base import Shape
from xpdl.layers.nodes import parts
from xpdl.onnx.nodes import BATCH, Missing, Signal
from xpdl.onnx.source import Constants, Unmapped, short
from xpdl.onnx.steps import Row, Step

# a shape of a row, or of a row of each input
InputShapes = Shape | tuple[Shape, ...] | Mapping[str, Shape] | None


def inputs_of(
    proto: ModelProto, constants: Constants, shapes: InputShapes, batched: bool
) -> dict[str, Signal | Missing]:
    """Return the inputs of a graph that are no constants; what is missing for one of several, which need not be used."""
    given = [one for one in proto.graph.input if one.name not in constants]
    if not given:
        raise Unmapped("its graph has no input")
    of_names = _by_name(shapes, [one.name for one in given])
    # a file of xpdl may begin with a transposition that is a layer
    is_own = proto.producer_name == "xpdl"
    found: dict[str, Signal | Missing] = {}
    for one in given:
        try:
            row: Row = of_names[one.name] if of_names else _row(one, batched)
        except Unmapped as error:
            if len(given) == 1:
                raise
            row, found[one.name] = (), Missing((f"{error.reason}{f'; {error.cure}' if error.cure else ''}",))
        axes = tuple(range(len(row)))
        if batched and not is_own:
            axes = _axes_of_input(one.name, proto.graph, len(row))
        if not of_names:
            row = tuple(row[axes.index(axis)] for axis in range(len(row)))
        step = Step(one.name, None, shape=row)
        found.setdefault(one.name, Signal(step, (BATCH, *axes) if batched else axes))
    return found


def _by_name(shapes: InputShapes, names: list[str]) -> dict[str, Shape]:
    if shapes is None:
        return {}
    found = dict(shapes) if isinstance(shapes, Mapping) else dict(zip(names, parts(shapes), strict=False))
    count = len(shapes) if isinstance(shapes, Mapping) else len(parts(shapes))
    if set(found) != set(names) or count != len(names):
        raise Unmapped(f"its inputs are {', '.join(map(short, names[:10]))}", "give input_shape a shape for each")
    return found


def _row(value: ValueInfoProto, batched: bool) -> Row:
    """Return the shape of a row of an input; 0 and names stand for sizes that are not known."""
    if value.type.WhichOneof("value") not in ("tensor_type", None):
        raise Unmapped(f"the input {short(value.name)} is no array")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise Unmapped(f"the shape of the input {short(value.name)} is not in it", "give input_shape=(1, 28, 28)")
    if len(tensor.shape.dim) > 8:
        raise Unmapped(f"the input {short(value.name)} has {len(tensor.shape.dim)} axes")
    return tuple(one.dim_value if one.dim_value > 0 else None for one in tensor.shape.dim[1 if batched else 0 :])


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
