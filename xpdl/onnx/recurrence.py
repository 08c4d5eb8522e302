"""Recurrent layers of the nodes RNN, LSTM and GRU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.merging import Concatenate
from xpdl.layers.rearranging import Slice
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.onnx.arranging import after, arranged, reshaped
from xpdl.onnx.importing import Importer, Reader
from xpdl.onnx.masks import mask_of_lengths
from xpdl.onnx.nodes import BATCH, ONE, Filled, Given, Node, Signal, constant, signal
from xpdl.onnx.source import Damaged, HostArray, Unmapped
from xpdl.onnx.steps import Step, known, row_after

Recurrent = type[RNN] | type[LSTM] | type[GRU]
_ACTIVATIONS = {RNN: ["tanh"], LSTM: ["sigmoid", "tanh", "tanh"], GRU: ["sigmoid", "tanh"]}
#: places of the layer's gates among those of ONNX
_GATES: dict[type, tuple[int, ...]] = {RNN: (0,), LSTM: (0, 2, 3, 1), GRU: (1, 0, 2)}


class _Weights(NamedTuple):
    """Constants of a node, with an axis for the directions in front."""

    of_x: HostArray
    of_h: HostArray
    b: HostArray


def recurrent(kind: Recurrent) -> Importer:
    """Return the importer of a kind of layers."""

    def importer(
        node: Node,
        reader: Reader,
        x: Given,
        W: Given,
        R: Given,
        b: Given = None,
        lengths: Given = None,
        h: Given = None,
        c: Given = None,
        P: Given = None,
    ) -> tuple[Signal | None, ...]:
        states = {"initial_h": h} if kind is not LSTM else {"initial_h": h, "initial_c": c, "P": P}
        if kind is not LSTM and (c is not None or P is not None):
            raise Damaged(f"{node.label}: the operator takes another number of inputs")
        for name, value in states.items():
            _require_zeros(value, name)
        x = _sequences(node, signal(x))
        weights = _Weights(
            *(reader.weights(value, name) for name, value in (("W", W), ("R", R), ("B", _or_zeros(R, b))))
        )
        directions = _directions(node, kind, weights)
        mask = mask_of_lengths(lengths, known(x.step.shape)[0])
        sequences, last = (reader.is_used(name) for name in (*node.outputs, "", "")[:2])
        layer = _layer(kind, directions, return_sequences=sequences or not last)
        before = (x.step,) if mask is None else (x.step, mask)
        step = Step(node.outputs[0], layer, *before, shape=row_after(layer, x.step.shape))
        layout, two = node.integer("layout", 0), len(directions) > 1
        if not sequences and last:
            return None, _last(node, step, layout, two)
        return _all(node, step, layout, two), _last(node, _end_of(node, step, two), layout, two) if last else None

    return importer


def _or_zeros(R: Given, b: Given) -> Given:
    shape = constant(R, "R").shape
    if b is not None or len(shape) != 3:
        return b if b is not None else R
    return np.zeros((shape[0], 2 * shape[1]), np.float32)


def _require_zeros(value: Given, name: str) -> None:
    if value is None or (isinstance(value, Filled) and value.value == 0):
        return
    if isinstance(value, Filled) or not isinstance(value, np.ndarray) or np.any(value != 0):
        raise Unmapped(
            f"its {name} is {'computed' if isinstance(value, Signal) else 'not 0'}, and layers begin with states of zeros"
        )


def _sequences(node: Node, x: Signal) -> Signal:
    """Return sequences (N, T, F), which a file mostly has as (T, N, F)."""
    place = 0 if node.integer("layout", 0) else 1
    if len(x.axes) != 3 or x.axes[place] != BATCH:
        raise Unmapped(
            f"its input is no sequences whose rows are along axis {place}: rows are of shape {x.row}",
            "export the model with batch_first=True",
        )
    known(x.step.shape)
    return arranged(node.outputs[0], x)


def _directions(node: Node, kind: Recurrent, weights: _Weights) -> list[dict[str, HostArray]]:
    """Return the parameters of each direction."""
    count = {"forward": 1, "bidirectional": 2}.get(node.text("direction", "forward"))
    if count is None:
        raise Unmapped("it reads sequences from their end alone", "add the other direction: bidirectional")
    found = [one.lower() for one in node.texts("activations")] or _ACTIVATIONS[kind] * count
    if found != _ACTIVATIONS[kind] * count:
        raise Unmapped(f"its activations are {', '.join(found)[:60]}, and not {', '.join(_ACTIVATIONS[kind])}")
    if node.has("clip") or node.integer("input_forget", 0):
        raise Unmapped("it clips its gates, or couples them, and layers do neither")
    if kind is GRU and not node.integer("linear_before_reset", 0):
        raise Unmapped(
            "its reset gate multiplies the state before the product with its weights, where the layer has it after",
            "train it with linear_before_reset=1, as PyTorch has it",
        )
    units, width = node.integer("hidden_size", 0), weights.of_x.shape[-1]
    gates = len(_GATES[kind]) * units
    shapes = (count, gates, width), (count, gates, units), (count, 2 * gates)
    if units < 1 or tuple(one.shape for one in weights) != shapes:
        raise Damaged(
            f"{node.label}: W, R and B of shapes {', '.join(str(one.shape) for one in weights)} are not {shapes}"
        )
    return [_parameters(kind, *(one[place] for one in weights)) for place in range(count)]


def _parameters(kind: Recurrent, of_x: HostArray, of_h: HostArray, b: HostArray) -> dict[str, HostArray]:
    def ordered(a: HostArray) -> HostArray:
        parts = np.split(a, len(_GATES[kind]))
        return np.concatenate([parts[gate] for gate in _GATES[kind]])

    of_input, of_state = (ordered(half) for half in np.split(b, 2))
    found = {"Wx": np.ascontiguousarray(ordered(of_x).T), "Wh": np.ascontiguousarray(ordered(of_h).T)}
    if kind is GRU:  # what the reset gate multiplies keeps its own bias
        units = of_h.shape[1]
        new = of_state[-units:].copy()
        of_state[-units:] = 0
        return {**found, "b": of_input + of_state, "bh": new}
    return {**found, "b": of_input + of_state}


def _layer(kind: Recurrent, directions: list[dict[str, HostArray]], return_sequences: bool) -> Any:
    layer: Any = kind(directions[0]["Wh"].shape[0], return_sequences=return_sequences)
    if len(directions) == 1:
        layer.params.update(directions[0])
        return layer
    both = Bidirectional(layer)
    for (_, one), parameters in zip(both.children(), directions, strict=True):
        one.params.update(parameters)
    return both


def _all(node: Node, step: Step, layout: int, two: bool) -> Signal:
    """Return the states of all steps, (T, directions, N, H) in the file, or (N, T, directions, H)."""
    length, width = known(step.shape)
    if not two:
        return Signal(step, (BATCH, 0, ONE, 1) if layout else (0, ONE, BATCH, 1))
    parts = reshaped(node.outputs[0], step, (length, 2, width // 2))
    return Signal(parts, (BATCH, 0, 1, 2) if layout else (0, 1, BATCH, 2))


def _last(node: Node, step: Step, layout: int, two: bool) -> Signal:
    """Return the last states, (directions, N, H) in the file, or (N, directions, H)."""
    if not two:
        return Signal(step, (BATCH, ONE, 0) if layout else (ONE, BATCH, 0))
    parts = reshaped(node.outputs[1], step, (2, known(step.shape)[0] // 2))
    return Signal(parts, (BATCH, 0, 1) if layout else (0, BATCH, 1))


def _end_of(node: Node, step: Step, two: bool) -> Step:
    """Return the last states of a layer that gives those of all steps."""
    name, (length, width) = node.outputs[1], known(step.shape)
    last = after(name, step, Slice(length - 1, length))
    if not two:
        return reshaped(name, last, (width,))
    halves = [
        after(name, last, Slice(0, width // 2, 2)),
        after(name, after(name, step, Slice(0, 1)), Slice(width // 2, width, 2)),
    ]
    joined = Concatenate(2)
    return reshaped(name, Step(name, joined, *halves, shape=(1, width)), (width,))
