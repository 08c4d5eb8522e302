"""Wiring of a graph: names and numbers in place of nodes, which hang on each other by references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xpdl.layers.dag_steps import Use
from xpdl.layers.nodes import Call, Input, Node, Shape, calls_before


class Wiring(NamedTuple):
    """A graph without its nodes; see the attributes of `Dag`."""

    inputs: dict[str, Shape]
    layers: dict[str, Any]
    uses: list[Use]
    outputs: dict[str, int]
    form: str


def wired(owner: str, inputs: Any, outputs: Any) -> Wiring:
    """Return the graph from `inputs`, an `Input` or a sequence of them, to `outputs`, a node, or a sequence or dict of them.

    Raises
    ------
    TypeError, ValueError
        If these are something else, or do not hang together.
    """
    given, wanted = _inputs_of(owner, inputs), _outputs_of(owner, outputs)
    calls = calls_before(wanted)
    numbers: dict[Node, int] = {}
    for node in (*given.values(), *(node for call in calls for node in call.outputs)):
        numbers[node] = len(numbers)
    _require_connected(owner, given, wanted, calls, numbers)
    names = _names_of(owner, calls)
    shapes: dict[str, Any] = {name: node.shape for name, node in given.items()}
    uses: list[Use] = [
        (name, tuple(numbers[node] for node in call.inputs), tuple(numbers[node] for node in call.outputs))
        for call, name in zip(calls, names, strict=True)
    ]
    values = [numbers[node] for node in wanted]
    keys = list(outputs) if isinstance(outputs, Mapping) else _output_names(shapes, uses, values)
    form = "array" if isinstance(outputs, Node) else "dict" if isinstance(outputs, Mapping) else "tuple"
    layers = {name: call.layer for call, name in zip(calls, names, strict=True)}
    return Wiring(shapes, layers, uses, dict(zip(keys, values, strict=True)), form)


def _inputs_of(owner: str, inputs: Any) -> dict[str, Input]:
    """Return the inputs of a graph by name."""
    given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    odd = [one for one in given if not isinstance(one, Input)]
    if odd or not given:
        got = repr(odd[0]) if odd else "none"
        raise TypeError(f"{owner}: inputs must be what xpdl.Input(shape) returned, one or a list of them, got {got}")
    names = [one.name or ("x" if len(given) == 1 else f"x{number}") for number, one in enumerate(given, start=1)]
    if len(set(names)) < len(names) or len(set(given)) < len(given):
        raise ValueError(f"{owner}: inputs must be different ones, with different names, got {', '.join(names)}")
    return dict(zip(names, given, strict=True))


def _outputs_of(owner: str, outputs: Any) -> list[Node]:
    wanted = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    wanted = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
    odd = [one for one in wanted if not isinstance(one, Node)]
    if odd or not wanted:
        got = repr(odd[0]) if odd else "none"
        raise TypeError(
            f"{owner}: outputs must be what a layer gave for a node, one, or a list or dict of them, got {got}; write "
            "Affine(units=10)(x)"
        )
    if isinstance(outputs, Mapping) and not all(isinstance(name, str) for name in outputs):
        raise TypeError(f"{owner}: names of outputs must be strings, got {list(outputs)}")
    return wanted


def _require_connected(
    owner: str, inputs: Mapping[str, Node], outputs: Sequence[Node], calls: Sequence[Call], numbers: Mapping[Node, int]
) -> None:
    """Refuse nodes that hang on an input which the graph does not have, and inputs that nothing hangs on."""
    needed = [*outputs, *(node for call in calls for node in call.inputs)]
    for node in needed:
        if node not in numbers:
            raise ValueError(
                f"{owner}: outputs depend on an input that is none of the inputs, got {node!r}; add it to inputs"
            )
    unused = [name for name, node in inputs.items() if node not in needed]
    if unused:
        raise ValueError(f"{owner}: an output must depend on each input, got none for {unused[0]!r}; leave it out")


def _names_of(owner: str, calls: Sequence[Call]) -> list[str]:
    """Return the name of the layer of each call: that a call gave it, or its class and number."""
    names: dict[int, str] = {}
    for call in calls:
        if call.name is not None and names.setdefault(id(call.layer), call.name) != call.name:
            raise ValueError(f"{owner}: a layer has one name, got {names[id(call.layer)]!r} and {call.name!r}")
    taken, counts = set(names.values()), Counter[str]()
    if len(taken) < len(names):
        twice = next(name for name, count in Counter(names.values()).items() if count > 1)
        raise ValueError(f"{owner}: layers must have different names, got {twice!r} twice")
    for call in calls:
        kind = type(call.layer).__name__
        while id(call.layer) not in names:
            counts[kind] += 1
            if f"{kind}{counts[kind]}" not in taken:
                names[id(call.layer)] = f"{kind}{counts[kind]}"
    return [names[id(call.layer)] for call in calls]


def _output_names(inputs: Mapping[str, Shape], uses: Sequence[Use], values: Sequence[int]) -> list[str]:
    """Return a name for each output: that of the layer that gives it, with a number where it has several."""
    names = dict(enumerate(inputs))
    for name, _, given in uses:
        names |= {value: name if len(given) == 1 else f"{name}[{place}]" for place, value in enumerate(given)}
    found: list[str] = []
    for value in values:
        name, number = names[value], 1
        while name in found:
            number += 1
            name = f"{names[value]}_{number}"
        found.append(name)
    return found
