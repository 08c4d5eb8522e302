"""Steps with branches, several inputs or outputs, or shared weights, as the nodes of a `Graph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from xpdl.layers.base import Layer
from xpdl.layers.identity import Identity
from xpdl.layers.merging import Add
from xpdl.layers.nodes import Input
from xpdl.onnx.scalings import merged
from xpdl.onnx.steps import Part, Step, known


def in_order(ends: Iterable[Step]) -> list[Step]:
    """Return the steps that `ends` need, each behind its inputs."""
    order: dict[Step, None] = {}
    waiting = list(ends)[::-1]
    while waiting:  # not by recursion: there may be more steps than Python has frames
        one = waiting[-1]
        before = [step for step in one.inputs if step not in order]
        if one in order or not before:
            waiting.pop()
            order[one] = None
        else:
            waiting += before[::-1]
    return list(order)


def shared_layers(steps: Iterable[Step]) -> list[Layer]:
    """Return the layers that several of the steps have."""
    counts = Counter(step.layer for step in steps if isinstance(step.layer, Layer))
    return [layer for layer, count in counts.items() if count > 1]


def nodes_of(
    inputs: Collection[Step], outputs: Mapping[str, Step], shared: Collection[Layer]
) -> tuple[list[Input], dict[str, Any]]:
    """Return the inputs and outputs of a `Graph` of the steps."""
    steps = in_order(outputs.values())
    uses = Counter(before for step in steps for before in step.inputs) + Counter(outputs.values())
    places = {step: Input(known(step.shape), step.name) for step in inputs if step in uses}
    values: dict[Step, Any] = dict(places)
    row: list[Part] = []
    first: Step | None = None
    following = {step.inputs[0]: step for step in steps if len(step.inputs) == 1}
    for end in steps:
        if end in values or _goes_on(end, uses, following):
            continue
        row, first = _row_to(end, uses)
        taken = [values[before] for before in first.inputs]
        value: Any = Add()(*taken) if first.layer is None else None
        if first.layer is not None and len(taken) > 1:
            (layer,) = merged([first.layer], shared)
            value = layer(*taken)
        elif first.layer is not None:
            value, row = taken[0], [first.layer, *row]
        for layer in merged(row, shared):
            value = layer(value)
        values[end] = value
    # an input that is an output as well needs a layer between
    found = {name: values[step] if step.inputs else Identity()(values[step]) for name, step in outputs.items()}
    return list(places.values()), found


def _goes_on(step: Step, uses: Mapping[Step, int], following: Mapping[Step, Step]) -> bool:
    """Return whether a row of steps goes on after one, so that it is placed with those."""
    return uses[step] == 1 and step in following


def _row_to(end: Step, uses: Mapping[Step, int]) -> tuple[list[Part], Step]:
    """Return the parts behind the first step of the row that ends there, and that step."""
    row: list[Part] = []
    while len(end.inputs) == 1 and uses[end.inputs[0]] == 1 and end.inputs[0].inputs:
        assert end.layer is not None
        row.append(end.layer)
        end = end.inputs[0]
    return row[::-1], end
