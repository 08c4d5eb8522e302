"""Steps of a graph: the uses of its layers, neighbours that are computed as one, and what each step frees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xpdl.layers.fusion import FusedStep
from xpdl.layers.fusion import fuse as fused

# name of a layer, numbers of the values that it takes and gives
Use = tuple[str, tuple[int, ...], tuple[int, ...]]


class Step(NamedTuple):
    """One use of a layer, or of a ``FusedStep``, in a pass.

    Attributes
    ----------
    layer : Layer
    inputs, outputs : tuple of int
        Numbers of values.
    spent : tuple of int
        Values that nothing needs after the step.
    is_shared : bool
        Whether the layer has other uses, too.
    """

    layer: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    spent: tuple[int, ...] = ()
    is_shared: bool = False


def steps_of(uses: Sequence[Use], layers: Mapping[str, Any], outputs: set[int], fuse: bool) -> tuple[Step, ...]:
    """Return the steps of a graph whose `outputs` are to be kept; with `fuse`, rows of layers are fused."""
    counts = Counter(name for name, _, _ in uses)
    steps: list[Step] = []
    for row in _rows(uses, counts, outputs):
        inside = [layers[name] for name, _, _ in row]
        start = 0
        for layer in fused(inside) if fuse else inside:
            end = start + (len(layer.layers) if isinstance(layer, FusedStep) else 1)
            steps.append(Step(layer, row[start][1], row[end - 1][2], is_shared=counts[row[start][0]] > 1))
            start = end
    return _freeing(steps, outputs)


def trained_values(steps: Sequence[Step], wanted: set[int]) -> set[int]:
    """Return the outputs that a gradient goes through to parameters or to values that are `wanted`."""
    found: set[int] = set()
    for step in steps:
        if any(value in wanted or value in found for value in step.inputs) or step.layer.trains:
            found.update(step.outputs)
    return found


def _rows(uses: Sequence[Use], counts: Mapping[str, int], outputs: set[int]) -> list[list[Use]]:
    """Return the uses as rows, in each of which one alone takes what the one before gives."""
    takers: dict[int, list[Use]] = {}
    for use in uses:
        for value in use[1]:
            takers.setdefault(value, []).append(use)
    rows: list[list[Use]] = []
    row_of: dict[int, list[Use]] = {}  # number of the only output of the last use of a row -> the row
    for use in uses:
        name, taken, given = use
        row = row_of.pop(taken[0], None) if len(taken) == 1 and counts[name] == 1 else None
        if row is None:
            row = []
            rows.append(row)
        row.append(use)
        if len(given) == 1 and counts[name] == 1 and given[0] not in outputs and len(takers.get(given[0], ())) == 1:
            row_of[given[0]] = row
    return rows


def _freeing(steps: Sequence[Step], outputs: set[int]) -> tuple[Step, ...]:
    """Return the steps with what each is the last to need, or gives to nobody."""
    last = {value: place for place, step in enumerate(steps) for value in (*step.outputs, *step.inputs)}
    spent: dict[int, list[int]] = {}
    for value, place in last.items():
        if value not in outputs:
            spent.setdefault(place, []).append(value)
    return tuple(step._replace(spent=tuple(spent.get(place, ()))) for place, step in enumerate(steps))
