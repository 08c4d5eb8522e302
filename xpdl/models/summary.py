"""Summary of a model: output, parameters and cost of each layer, as ``model.summary()`` prints them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from xpdl.backends import get_backend
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.base import Layer, Shape, first_shape, row_size
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.flatten import Flatten
from xpdl.layers.identity import Identity
from xpdl.layers.nodes import arguments, parts
from xpdl.layers.rearranging import Reshape
from xpdl.layers.tracing import traced
from xpdl.layers.wired_layers import WiredLayers
from xpdl.models.flops import flop

_HEAD = ("layer", "kind", "output", "parameters", "bytes", "output bytes/row", "FLOP/row")
_WORDS = 3  # so many columns stand left


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One layer of a summary; None is what cannot be known yet, or for this kind of layer.

    Attributes
    ----------
    path, kind : str
    output_shape : tuple of int or None
        Of one row; a tuple or dict of shapes of several outputs.
    parameters, parameter_bytes : int or None
        None before the layer is built.
    activation_bytes : int or None
        Size of one row of the output; 0 where it is the input again.
    flop : int or None
        See `xpdl.models.flops.flop`.
    """

    path: str
    kind: str
    output_shape: Any
    parameters: int | None
    parameter_bytes: int | None
    activation_bytes: int | None
    flop: int | None


def layer_costs(model: Composite, input_shape: Any) -> list[LayerCost]:
    """The layers of a model, those inside blocks too, in the order in which they compute."""
    first = next((owner[key] for _, owner, key in model.named_params()), None)
    here = get_backend()
    size = _item_size(first) if first is not None else here.xp.finfo(getattr(here.xp, here.dtype)).bits // 8
    return list(_children("", model, input_shape, size))


def _children(prefix: str, layers: Composite, shape: Any, size: int) -> Iterator[LayerCost]:
    """The layers of a graph, or of a chain."""
    if isinstance(layers, WiredLayers):
        yield from _in_graph(prefix, layers, size)
        return
    for name, layer in layers.children():
        yield from _inside(prefix + name, layer, shape, size)
        shape = None if shape is None else layer.output_shape(*arguments(layer, parts(shape)))


def _in_graph(prefix: str, graph: WiredLayers, size: int) -> Iterator[LayerCost]:
    """Each layer once; of one with several uses, the outputs and operations of all of them."""
    shapes = graph.shapes() if all(layer.built or not layer.holds_layers for layer in graph.tree()) else None
    for name, layer in graph.layers.items():
        taken = [inputs for used, inputs, _ in graph.uses if used == name]
        given = [None if shapes is None else in_tuple([shapes[value] for value in one]) for one in taken]
        costs = [list(_inside(prefix + name, layer, shape, size)) for shape in given]
        yield from (_together(row) for row in zip(*costs, strict=True))


def in_tuple(shapes: list[Shape]) -> Any:
    """Return one shape by itself, or several as a tuple."""
    return shapes[0] if len(shapes) == 1 else tuple(shapes)


def _together(uses: tuple[LayerCost, ...]) -> LayerCost:
    def total(name: str) -> int | None:
        values = [getattr(use, name) for use in uses]
        return None if None in values else sum(values)

    return dataclasses.replace(uses[0], activation_bytes=total("activation_bytes"), flop=total("flop"))


def _inside(path: str, layer: Layer, shape: Any, size: int) -> Iterator[LayerCost]:
    """The costs of a layer whose output has values of `size` bytes: of those inside it, then its own."""
    if isinstance(layer, (Chain, WiredLayers)):
        yield from _children(f"{path}.", layer, shape, size)
        return
    inputs: dict[str, Shape | None] = dict.fromkeys(("body", "shortcut"), shape)
    if shape is not None and isinstance(layer, Bidirectional):  # with or without a mask
        inputs = dict.fromkeys(("forwards", "backwards"), first_shape(shape))
    elif shape is not None and layer.holds_layers and layer.built and any(layer.children()):
        inputs = {**traced(layer, shape).inputs}
    for name, inner in layer.children():
        yield from _inside(f"{path}.{name}", inner, inputs.get(name), size)
    arrays = layer.own("params").values()
    out = None if shape is None else layer.output_shape(*arguments(layer, parts(shape)))
    values = None if out is None else sum(row_size(one) for one in parts(out))
    view = isinstance(layer, (Flatten, Identity, Reshape))
    yield LayerCost(
        path=path,
        kind=type(layer).__name__,
        output_shape=out,
        parameters=sum(math.prod(a.shape) for a in arrays) if layer.built else None,
        parameter_bytes=sum(math.prod(a.shape) * _item_size(a) for a in arrays) if layer.built else None,
        activation_bytes=None if values is None else 0 if view else values * size,
        flop=None if shape is None else flop(layer, shape),
    )


def _item_size(a: Array) -> int:
    return int(array_namespace(a).finfo(a.dtype).bits) // 8


def summary_table(model: Composite, input_shape: Any, loss: Layer | None) -> str:
    """`layer_costs` for people, with sums below; a sum over something unknown has a ``?``, too."""
    costs = layer_costs(model, input_shape)
    rows: list[tuple[str, ...]] = [_HEAD]
    for cost in costs:
        size = "?" if cost.output_shape is None else inputs_in_words(cost.output_shape)
        count = "not built" if cost.parameters is None else f"{cost.parameters:,}"
        numbers = (_shown([n]) for n in (cost.parameter_bytes, cost.activation_bytes, cost.flop))
        rows.append((cost.path, cost.kind, size, count, *numbers))
    sums = [
        [getattr(cost, name) for cost in costs]
        for name in ("parameters", "parameter_bytes", "activation_bytes", "flop")
    ]
    rows.append(("total", "", "", *map(_shown, sums)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(
            f"{word:<{width}}" if i < _WORDS else f"{word:>{width}}"
            for i, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    given = "" if input_shape is None else f", input {inputs_in_words(input_shape)}"
    last = "" if loss is None else f", loss {type(loss).__name__}"
    return "\n".join([f"{type(model).__name__}{given}{last}", lines[0], rule, *lines[1:-1], rule, lines[-1]])


def inputs_in_words(input_shape: Any) -> str:
    """``(N, 784)`` for the shape of one row; of several inputs, one after the other."""
    return ", ".join(f"(N, {', '.join(map(str, shape))})" for shape in parts(input_shape))


def _shown(values: list[int | None]) -> str:
    known = [value for value in values if value is not None]
    return "?" if len(known) < len(values) else f"{sum(known):,}"
