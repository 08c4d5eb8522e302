"""Layers that several nodes have with the same constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.onnx.nodes import Given, Node, Signal
from xpdl.onnx.steps import Step


class SharedLayers:
    """Layers of a file by operator, attributes and names of constants."""

    def __init__(self) -> None:
        self._layers: dict[tuple[Any, ...], Layer] = {}
        self._keys: dict[Step, tuple[Any, ...]] = {}

    def with_known(self, node: Node, values: Sequence[Given], found: Signal) -> Signal:
        """Return what a node gives, with the layer of another node that is the same."""
        step, layer = found.step, found.step.layer
        names = tuple(name for name, value in zip(node.inputs, values, strict=False) if isinstance(value, np.ndarray))
        if not names or step.name != node.outputs[0] or not isinstance(layer, Layer) or not layer.params:
            return found
        before = tuple(value.step for value in values if isinstance(value, Signal))
        # of a bias, whose sum is part of the layer before
        inside = () if step.inputs == before else tuple(self._keys.get(one, one) for one in before)
        self._keys[step] = key = (node.kind, names, inside, node.text_of_attributes())
        known = self._layers.setdefault(key, layer)
        if known is layer or not _are_equal(known, layer):
            return found
        return dataclasses.replace(found, step=Step(step.name, known, *step.inputs, shape=step.shape))


def _are_equal(a: Layer, b: Layer) -> bool:
    if type(a) is not type(b) or repr(a) != repr(b) or a.params.keys() != b.params.keys():
        return False
    return all(np.array_equal(array, b.params[key]) for key, array in a.params.items())
