"""Layers that several nodes have with the same constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.onnx.nodes import Given, Node, Signal
from xpdl.onnx.source import HostArray
from xpdl.onnx.steps import Step

#: steps of a file that are one layer, and constants that one is computed from
_MOST_STEPS = _MOST_NAMES = 64


class Origins:
    """The constants of floats, of more than one, that constants are computed from.

    Parameters
    ----------
    values : dict of str to value
        Those of the file so far, which go on growing.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._names: dict[str, frozenset[str]] = {}

    def add(self, node: Node) -> None:
        """Remember a node that computes with constants."""
        if node.inputs:
            self._names.update(dict.fromkeys(node.outputs, self.of(node.inputs)))

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names of the constants that any of these are, or are computed from; none where they are too many."""
        found = frozenset().union(*map(self._of_one, names))
        return found if len(found) <= _MOST_NAMES else frozenset()

    def constant_of(self, name: str) -> HostArray | None:
        """Return the one constant of the file that a value is, or is a part of."""
        names = self._of_one(name)
        value = self._values.get(next(iter(names))) if len(names) == 1 else None
        return value if isinstance(value, np.ndarray) else None

    def _of_one(self, name: str) -> frozenset[str]:
        if name in self._names:
            return self._names[name]
        value = self._values.get(name)
        has_floats = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 1
        return frozenset([name] if has_floats else [])


class SharedLayers:
    """Layers of a file by their options and the names of the constants that they were read from."""

    def __init__(self) -> None:
        self._layers: dict[tuple[Any, ...], Layer] = {}
        self._names: dict[Step, frozenset[str]] = {}

    def share(self, node: Node, values: Sequence[Given], names: frozenset[str], found: Sequence[Given]) -> None:
        """Give the step of a node the layer of other nodes with the same constants, where they have the same parameters.

        Parameters
        ----------
        node : Node
        values, found : sequence
            Its inputs and outputs.
        names : frozenset of str
            Of constants among the inputs, or that they are computed from.
        """
        before = [value.step for value in values if isinstance(value, Signal)]
        new = _new_steps(node, found, before)
        kept = {one for step in new for one in step.inputs}
        whole = names | self._names_behind(before, kept)
        for step in new:
            layer = step.layer
            if whole and isinstance(layer, Layer) and layer.params:
                known = self._layers.setdefault((type(layer), repr(layer), whole), layer)
                step.layer = known if _are_equal(known, layer) else layer
            self._names[step] = names

    def _names_behind(self, before: Sequence[Step], kept: set[Step]) -> frozenset[str]:
        """Return the names of the constants of the steps that new ones replace."""
        waiting, taken = list(before), set[Step]()
        while waiting and len(taken) <= _MOST_STEPS:
            step = waiting.pop()
            if step not in kept and step not in taken and step.inputs:
                taken.add(step)
                waiting += step.inputs
        return frozenset().union(*(self._names.get(step, frozenset()) for step in taken))


def _new_steps(node: Node, found: Sequence[Given], before: Sequence[Step]) -> list[Step]:
    """Return the steps that a node adds, the first first."""
    order: dict[Step, None] = {}
    waiting = [value.step for value in found if isinstance(value, Signal)]
    while waiting:
        step = waiting.pop()
        if step.name in node.outputs and step not in order and step not in before and step.inputs:
            order[step] = None
            waiting += step.inputs
    return list(order)[::-1]


def _are_equal(a: Layer, b: Layer) -> bool:
    mine, others = ({**layer.params, **layer.state} for layer in (a, b))
    return mine.keys() == others.keys() and all(np.array_equal(array, others[key]) for key, array in mine.items())
