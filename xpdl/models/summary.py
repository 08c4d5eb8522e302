"""Summary of a model: output, parameters and cost of each layer, as ``model.summary()`` prints them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from xpdl.backends import get_backend
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.base import Layer, Shape, row_size
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.flatten import Flatten
from xpdl.layers.identity import Identity
from xpdl.layers.tracing import traced
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
        Of one row.
    parameters, parameter_bytes : int or None
        None before the layer is built.
    activation_bytes : int or None
        Size of one row of the output; 0 where it is the input again.
    flop : int or None
        See `xpdl.models.flops.flop`.
    """

    path: str
    kind: str
    output_shape: Shape | None
    parameters: int | None
    parameter_bytes: int | None
    activation_bytes: int | None
    flop: int | None


def layer_costs(model: Composite, input_shape: Shape | None) -> list[LayerCost]:
    """The layers of a model, those inside blocks too, in the order in which they compute."""
    first = next((owner[key] for _, owner, key in model.named_params()), None)
    here = get_backend()
    size = _item_size(first) if first is not None else here.xp.finfo(getattr(here.xp, here.dtype)).bits // 8
    return list(_in_chain("", model, input_shape, size))


def _in_chain(prefix: str, chain: Composite, shape: Shape | None, size: int) -> Iterator[LayerCost]:
    for name, layer in chain.children():
        yield from _inside(prefix + name, layer, shape, size)
        shape = None if shape is None else layer.output_shape(shape)


def _inside(path: str, layer: Layer, shape: Shape | None, size: int) -> Iterator[LayerCost]:
    """The costs of a layer whose output has values of `size` bytes: of those inside it, then its own."""
    if isinstance(layer, Chain):
        yield from _in_chain(f"{path}.", layer, shape, size)
        return
    inputs: dict[str, Shape | None] = dict.fromkeys(("body", "shortcut"), shape)
    if shape is not None and layer.holds_layers and layer.built and any(layer.children()):
        inputs = {**traced(layer, shape).inputs}
    for name, inner in layer.children():
        yield from _inside(f"{path}.{name}", inner, inputs.get(name), size)
    arrays = layer.own("params").values()
    out = None if shape is None else layer.output_shape(shape)
    view = isinstance(layer, (Flatten, Identity))
    yield LayerCost(
        path=path,
        kind=type(layer).__name__,
        output_shape=out,
        parameters=sum(math.prod(a.shape) for a in arrays) if layer.built else None,
        parameter_bytes=sum(math.prod(a.shape) * _item_size(a) for a in arrays) if layer.built else None,
        activation_bytes=None if out is None else 0 if view else row_size(out) * size,
        flop=None if shape is None else flop(layer, shape),
    )


def _item_size(a: Array) -> int:
    return int(array_namespace(a).finfo(a.dtype).bits) // 8


def summary_table(model: Composite, input_shape: Shape | None, loss: Layer | None) -> str:
    """`layer_costs` for people, with sums below; a sum over something unknown has a ``?``, too."""
    costs = layer_costs(model, input_shape)
    rows: list[tuple[str, ...]] = [_HEAD]
    for cost in costs:
        size = "?" if cost.output_shape is None else "(N, " + ", ".join(map(str, cost.output_shape)) + ")"
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
    given = "" if input_shape is None else f", input (N, {', '.join(map(str, input_shape))})"
    last = "" if loss is None else f", loss {type(loss).__name__}"
    return "\n".join([f"{type(model).__name__}{given}{last}", lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _shown(values: list[int | None]) -> str:
    known = [value for value in values if value is not None]
    return "?" if len(known) < len(values) else f"{sum(known):,}"
