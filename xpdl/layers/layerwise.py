"""Layerwise passes of a network, one layer at a time, those inside blocks too.

`Chain` computes some neighbours as one; here each layer is asked by itself, so that what stands between any two is seen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from xpdl.backends.namespaces import Array, on_device_of
from xpdl.layers.base import Layer
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.dag import Dag, collect
from xpdl.layers.nodes import in_order, parts
from xpdl.layers.residual import Residual
from xpdl.layers.saved_uses import Saved, recalled, saved_by
from xpdl.layers.tree import forward_in_mode
from xpdl.ops.arithmetic import add

Layers = Iterable[tuple[str, Any]]
# path of a use of a layer in a graph -> what it saved
Uses = dict[str, Saved]


class LayerOutput(NamedTuple):
    """One layer of a pass, or the sum in which a residual block ends.

    Attributes
    ----------
    path : str
    layer : Layer, or any object with ``forward`` and ``backward``
    value : array or None
        Its output going forward, ``dx`` going back; None where the input is ids, which have no gradient.
    own : mapping
        Its parameters going forward, their gradients going back; a block has none of its own.
    """

    path: str
    layer: Any
    value: Any
    own: Mapping[str, Array]


class Visits:
    """The layers of a pass one after the other, and afterwards its result.

    Attributes
    ----------
    result
        What `forward_by_layer` or `backward_by_layer` returned.
    """

    def __init__(self, passing: Generator[LayerOutput, None, Any]) -> None:
        self.passing, self.result = passing, None

    def __iter__(self) -> Iterator[LayerOutput]:
        self.result = yield from self.passing


def layers_of(network: Any) -> Any:
    """Return the layers of a network as `forward_by_layer` takes them: a graph itself, or pairs (name, layer).

    A composition whose passes are its own is one layer.
    """
    if isinstance(network, Dag):
        return network
    if isinstance(network, Composite) and not isinstance(network, Chain):
        return [(network.name, network)]
    return list(getattr(network, "layers", {}).items())


def forward_by_layer(
    layers: Layers | Dag, x: Any, training: bool, prefix: str = "", saved: Uses | None = None
) -> Generator[LayerOutput, None, Any]:
    """Go forward through a graph, or pairs (name, layer), in training or evaluation, and return the output.

    `saved` is for a `backward_by_layer` that follows: it gets what layers with several uses save in each.
    """
    saved = {} if saved is None else saved
    if isinstance(layers, Dag):
        return (yield from _forward_graph(prefix, layers, x, training, saved))
    for name, layer in layers:
        x = yield from _forward(prefix + name, layer, x, training, saved)
    return x


def _forward(path: str, layer: Any, x: Any, training: bool, saved: Uses) -> Generator[LayerOutput, None, Any]:
    if _computes_as(layer, Chain):
        return (yield from forward_by_layer(layer.children(), x, training, f"{path}.", saved))
    if _computes_as(layer, Dag):
        return (yield from _forward_graph(f"{path}.", layer, x, training, saved))
    if _computes_as(layer, Residual):
        y = yield from _forward(f"{path}.body", layer.body, x, training, saved)
        y = add(y, (yield from _forward(f"{path}.shortcut", layer.shortcut, x, training, saved)))
        yield LayerOutput(path, layer, y, {})
    else:
        xs = x if isinstance(x, tuple) and not getattr(layer, "takes_tuple", False) else (x,)
        with on_device_of(first_of(x)):
            is_layer = isinstance(layer, Layer)
            y = forward_in_mode(layer, xs[0], training, *xs[1:]) if is_layer else layer.forward(*xs)
        for y_path, one in _named(path, y):
            yield LayerOutput(y_path, layer, one, getattr(layer, "params", {}))
    return y


def _forward_graph(prefix: str, graph: Dag, x: Any, training: bool, saved: Uses) -> Generator[LayerOutput, None, Any]:
    values = dict(enumerate(in_order(x, tuple(graph.inputs), graph.name, "inputs")))
    for path, (name, taken, given) in zip(_paths(prefix, graph), graph.uses, strict=True):
        layer = graph.layers[name]
        xs = [values[number] for number in taken]
        y = yield from _forward(path, layer, xs[0] if len(xs) == 1 else tuple(xs), training, saved)
        saved[path] = saved_by(layer)
        values.update(zip(given, parts(y), strict=True))
    return graph.in_form(values)


def backward_by_layer(
    layers: Layers | Dag, dout: Any, prefix: str = "", saved: Uses | None = None
) -> Generator[LayerOutput, None, Any]:
    """Go back through a graph, or pairs (name, layer), after `forward_by_layer`, and return ``dx`` of the first."""
    saved = {} if saved is None else saved
    if isinstance(layers, Dag):
        return (yield from _backward_graph(prefix, layers, dout, saved))
    for name, layer in reversed(list(layers)):
        dout = yield from _backward(prefix + name, layer, dout, saved)
    return dout


def _backward(path: str, layer: Any, dout: Any, saved: Uses) -> Generator[LayerOutput, None, Any]:
    if _computes_as(layer, Chain):
        return (yield from backward_by_layer(layer.children(), dout, f"{path}.", saved))
    if _computes_as(layer, Dag):
        return (yield from _backward_graph(f"{path}.", layer, dout, saved))
    if _computes_as(layer, Residual):
        dx = yield from _backward(f"{path}.body", layer.body, dout, saved)
        dx = add(dx, (yield from _backward(f"{path}.shortcut", layer.shortcut, dout, saved)))
        yield LayerOutput(path, layer, dx, {})
    else:
        with on_device_of(first_of(dout)):
            dx = layer.backward(dout)
        own = getattr(layer, "grads", {})
        for place, (dx_path, one) in enumerate(_named(path, dx) or [(path, None)]):
            yield LayerOutput(dx_path, layer, one, {} if place else own)
    return dx


def _backward_graph(prefix: str, graph: Dag, dout: Any, saved: Uses) -> Generator[LayerOutput, None, Any]:
    douts = in_order(dout, tuple(graph.outputs), graph.name, "gradients")
    gradients: dict[int, Any] = {}
    collect(gradients, tuple(graph.outputs.values()), douts)
    for path, (name, taken, given) in reversed(list(zip(_paths(prefix, graph), graph.uses, strict=True))):
        arrived = [gradients.pop(number, None) for number in given]
        if any(one is not None for one in arrived):
            with recalled(saved[path]):
                dx = yield from _backward(
                    path, graph.layers[name], tuple(arrived) if arrived[1:] else arrived[0], saved
                )
            collect(gradients, taken, parts(dx))
    dxs = tuple(gradients.get(number) for number in range(len(graph.inputs)))
    return dxs if dxs[1:] else dxs[0]


def _paths(prefix: str, graph: Dag) -> list[str]:
    """Return a path for each use of a graph; that of a later use of a layer has its number behind it."""
    counts: dict[str, int] = {}
    found = []
    for name, _, _ in graph.uses:
        counts[name] = counts.get(name, 0) + 1
        found.append(f"{prefix}{name}" if counts[name] == 1 else f"{prefix}{name} (use {counts[name]})")
    return found


def _named(path: str, value: Any) -> list[tuple[str, Array]]:
    """Return the arrays of an output or a gradient with their paths, numbered where there are several."""
    found = [one for one in parts(value) if one is not None]
    return [(path if not found[1:] else f"{path}[{place}]", one) for place, one in enumerate(found)]


def first_of(value: Any) -> Array:
    """Return the first array of one, or of several."""
    return next(one for one in parts(value) if one is not None)


def _computes_as(layer: Any, kind: type[Composite]) -> bool:
    """Return whether a layer is a `kind` that overrides neither pass."""
    own = type(layer)
    return isinstance(layer, kind) and own.forward is kind.forward and own.backward is kind.backward
