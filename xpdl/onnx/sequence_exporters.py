"""Nodes of layers of sequences: part of the table of exporters.

Sequences are (N, T, F) here, and (T, N, F) for the nodes of recurrent layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from xpdl.backends.conversion import to_numpy
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.positions import LearnedPositions, SinusoidalPositions
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.layers.tied_embedding import TiedScores
from xpdl.onnx.graph import Exporter, Graph, Value
from xpdl.onnx.source import HostArray
from xpdl.ops.positional import sinusoidal_positions

#: places of ONNX's gates among those of the layer
_GATES: dict[type, tuple[int, ...]] = {RNN: (0,), LSTM: (0, 3, 1, 2), GRU: (1, 0, 2)}
# stands for the scores of keys that are not looked at
_NEVER = -1e30


def _recurrent(layer: RNN | LSTM | GRU, graph: Graph, x: Value, *mask: Value) -> Value:
    return _steps(layer, [layer], graph, x, mask)


def _bidirectional(layer: Bidirectional, graph: Graph, x: Value, *mask: Value) -> Value:
    return _steps(layer, [one for _, one in layer.children()], graph, x, mask)


def _steps(layer: Any, directions: Sequence[Any], graph: Graph, x: Value, mask: tuple[Value, ...]) -> Value:
    """Nodes of a recurrent layer in one direction or two, which begins with states of zeros."""
    first = directions[0]
    kind = next(kind for kind in _GATES if isinstance(first, kind))
    weights = [graph.constant(np.stack(arrays)) for arrays in zip(*map(_weights, directions), strict=True)]
    options: dict[str, Any] = {"hidden_size": first.units}
    options |= {"linear_before_reset": 1} if kind is GRU else {}
    options |= {"direction": "bidirectional"} if len(directions) > 1 else {}
    given = [graph.node("Transpose", x, perm=[1, 0, 2]), *weights, *(_lengths(graph, one, x.shape[0]) for one in mask)]
    if not first.return_sequences:
        last = graph.node(kind.__name__, *given, place=1, **options)  # (directions, N, H)
        return _side_by_side(graph, graph.node("Transpose", last, perm=[1, 0, 2]), [0, -1])
    if not mask:  # (T, directions, N, H)
        y = graph.node("Transpose", graph.node(kind.__name__, *given, **options), perm=[2, 0, 1, 3])
        return _side_by_side(graph, y, [0, 0, -1])
    y, last = graph.nodes_of(kind.__name__, given, 2, **options)
    if len(directions) > 1:  # at steps that do not count, the way back has not begun
        forwards = graph.constant(np.reshape([1.0, 0.0], (2, 1, 1)))
        last = graph.node("Mul", last, forwards)
    y = _side_by_side(graph, graph.node("Transpose", y, perm=[2, 0, 1, 3]), [0, 0, -1])
    last = _side_by_side(graph, graph.node("Transpose", last, perm=[1, 0, 2]), [0, 1, -1])
    counts = graph.node("Unsqueeze", mask[0], graph.constant(np.array([2])))
    return graph.node("Where", counts, y, last)


def _side_by_side(graph: Graph, y: Value, shape: list[int]) -> Value:
    """Both directions, or the one, along the last axis."""
    return graph.node("Reshape", y, graph.constant(np.array(shape)))


def _lengths(graph: Graph, mask: Value, steps: int) -> Value:
    """Numbers of steps that count; of a mask with others among them a negative one, which runtimes refuse."""
    graph.booleans.add(mask.name)
    counts = graph.node("Cast", mask, to=TensorProto.INT32)
    numbers = graph.constant(np.arange(1, steps + 1, dtype=np.int32))
    total = graph.node("ReduceSum", counts, graph.constant(np.array([1])), keepdims=0)
    end = graph.node("ReduceMax", graph.node("Mul", counts, numbers), axes=[1], keepdims=0)
    # the total where both are the same
    often, less = (graph.constant(np.array(number, np.int32)) for number in (steps + 2, steps + 1))
    return graph.node("Sub", graph.node("Mul", total, often), graph.node("Mul", end, less))


def _weights(layer: RNN | LSTM | GRU) -> tuple[HostArray, HostArray, HostArray]:
    """Those of a direction as a node has them: (G H, F), (G H, H), and both biases (2 G H,)."""
    of_x, of_h, b = (to_numpy(layer.params[key]) for key in ("Wx", "Wh", "b"))
    other = np.zeros_like(b)
    if isinstance(layer, GRU):
        other[-layer.units :] = to_numpy(layer.bh)
    gates = next(gates for kind, gates in _GATES.items() if isinstance(layer, kind))

    def ordered(a: HostArray) -> HostArray:
        parts = np.split(a, len(gates))
        return np.concatenate([parts[gate] for gate in gates])

    return ordered(of_x.T), ordered(of_h.T), np.concatenate([ordered(b), ordered(other)])


def _attention(layer: MultiHeadAttention, graph: Graph, x: Value, *others: Value) -> Value:
    """All scores at once, where the layer computes them in blocks."""
    source = others[0] if others else x
    queries, keys, size = x.shape[0], source.shape[0], x.shape[1] // layer.heads
    q, k, v = (_heads(layer, graph, one, of) for one, of in (("q", x), ("k", source), ("v", source)))
    if layer.rotary:
        q, k = _rotated(graph, q, queries, size), _rotated(graph, k, keys, size)
    scores = graph.node("MatMul", q, graph.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = graph.node("Mul", scores, graph.constant(1.0 / math.sqrt(size)))
    counts = _counting(layer, graph, queries, keys, others[1:])
    if counts is None:
        p = graph.node("Softmax", scores, axis=-1)
    else:
        p = graph.node("Softmax", graph.node("Where", counts, scores, graph.constant(_NEVER)), axis=-1)
        p = graph.node("Where", counts, p, graph.constant(0.0))  # of queries that see no key
    joined = graph.node("Transpose", graph.node("MatMul", p, v), perm=[0, 2, 1, 3])
    return _mapped(layer, graph, "o", graph.node("Reshape", joined, graph.constant(np.array([0, 0, -1]))))


def _mapped(layer: MultiHeadAttention, graph: Graph, one: str, x: Value) -> Value:
    y = graph.node("MatMul", x, graph.parameter(layer, f"W{one}"))
    return graph.node("Add", y, graph.parameter(layer, f"b{one}")) if layer.use_bias else y


def _heads(layer: MultiHeadAttention, graph: Graph, one: str, x: Value) -> Value:
    """(N, heads, T, D) of one of the maps."""
    sizes = graph.constant(np.array([0, 0, layer.heads, -1]))
    return graph.node("Transpose", graph.node("Reshape", _mapped(layer, graph, one, x), sizes), perm=[0, 2, 1, 3])


def _rotated(graph: Graph, x: Value, length: int, size: int) -> Value:
    """The op `rotary`, with its angles as constants."""
    half = size // 2
    angle = np.arange(length)[:, None] * np.exp(np.arange(half) * (-math.log(10000.0) / half))
    cos, sin = (graph.constant(values.astype(graph.dtype)) for values in (np.cos(angle), np.sin(angle)))
    axis = graph.constant(np.array([3]))
    a, b = (
        graph.node("Slice", x, graph.constant(np.array([start])), graph.constant(np.array([start + half])), axis)
        for start in (0, half)
    )
    turned = (
        graph.node("Sub", graph.node("Mul", a, cos), graph.node("Mul", b, sin)),
        graph.node("Add", graph.node("Mul", a, sin), graph.node("Mul", b, cos)),
    )
    return graph.node("Concat", *turned, axis=3)


def _counting(
    layer: MultiHeadAttention, graph: Graph, queries: int, keys: int, mask: tuple[Value, ...]
) -> Value | None:
    """The scores that count, as booleans that spread over (N, heads, T, S); None where all do."""
    counts = None
    if layer.causal:
        counts = graph.constant(np.tri(queries, keys, keys - queries, dtype=bool))
    if mask:
        graph.booleans.add(mask[0].name)
        of_keys = graph.node("Unsqueeze", mask[0], graph.constant(np.array([1, 2])))
        counts = of_keys if counts is None else graph.node("And", of_keys, counts)
    return counts


def _sinusoidal_positions(layer: SinusoidalPositions, graph: Graph, x: Value) -> Value:
    added = sinusoidal_positions(np.zeros((1, *x.shape), graph.dtype), layer.base)
    return graph.node("Add", x, graph.constant(added))


def _learned_positions(layer: LearnedPositions, graph: Graph, x: Value) -> Value:
    W, length = graph.parameter(layer, "W"), x.shape[0]
    if length < layer.length:
        W = graph.node("Slice", W, *(graph.constant(np.array([number])) for number in (0, length, 0)))
    return graph.node("Add", x, W)


def _tied_scores(layer: TiedScores, graph: Graph, x: Value) -> Value:
    y = graph.node("MatMul", x, graph.node("Transpose", graph.parameter(layer.embedding, "W"), perm=[1, 0]))
    return graph.node("Add", y, graph.parameter(layer, "b")) if layer.use_bias else y


OF_SEQUENCES: dict[type, Exporter] = {
    Bidirectional: _bidirectional,
    GRU: _recurrent,
    LSTM: _recurrent,
    LearnedPositions: _learned_positions,
    MultiHeadAttention: _attention,
    RNN: _recurrent,
    SinusoidalPositions: _sinusoidal_positions,
    TiedScores: _tied_scores,
}
