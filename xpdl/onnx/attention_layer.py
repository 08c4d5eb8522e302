"""The layer of an attention, whose maps a file has as products with weights before and after it."""

from __future__ import annotations

import math

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.rearranging import Slice
from xpdl.onnx.attention import Joined
from xpdl.onnx.importing import Reader
from xpdl.onnx.nodes import Node, Signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Step


def layer_of(node: Node, reader: Reader, x: Signal, W: HostArray) -> Signal:
    """Return the attention whose joined heads are multiplied with the last weights."""
    joined = x.step.layer
    assert isinstance(joined, Joined)
    scores, (q, k, v) = joined.scores, x.step.inputs
    maps = [_map(one) for one in (q, k, v)]
    bases = [base for base, _, _ in maps]
    if bases[1] is not bases[2]:
        raise Unmapped("its keys and values are computed from different values")
    size = W.shape[0]
    if any(one.shape != (size, size) for one in (W, *(weights for _, weights, _ in maps))):
        raise Unmapped(f"its queries, keys, values and output are not all of size {size}")
    biases = [b for _, _, b in maps]
    if any(b is None for b in biases) and any(b is not None for b in biases):
        biases = [np.zeros(size, W.dtype) if b is None else b for b in biases]
    layer = MultiHeadAttention(
        scores.heads, scores.is_causal, rotary=scores.is_rotary, use_bias=any(b is not None for b in biases)
    )
    ratio = scores.factor * math.sqrt(size // scores.heads)
    for one, (_, weights, _), b in zip("qkv", maps, biases, strict=True):
        times = 1.0 if one != "q" or abs(ratio - 1.0) <= 1e-6 else ratio
        layer.params[f"W{one}"] = reader.weights(weights if times == 1.0 else weights * W.dtype.type(times), "weights")
        if b is not None:
            layer.params[f"b{one}"] = reader.weights(b if times == 1.0 else b * W.dtype.type(times), "bias")
    layer.params["Wo"] = W
    if layer.use_bias:
        layer.params["bo"] = np.zeros(size, W.dtype)
    layer.params.update({key: layer.params.pop(key) for key in _in_order(layer)})
    before = (bases[0],) if bases[0] is bases[1] and scores.mask is None else (bases[0], bases[1])
    before = before if scores.mask is None else (*before, scores.mask)
    return Signal(Step(node.outputs[0], layer, *before, shape=x.step.shape), x.axes)


def _in_order(layer: MultiHeadAttention) -> list[str]:
    return [f"{kind}{one}" for one in "qkvo" for kind in ("Wb" if layer.use_bias else "W")]


def with_last_bias(node: Node, reader: Reader, x: Signal, b: HostArray) -> Signal | None:
    """Return an attention with the bias of its last map; None of something else."""
    layer = x.step.layer
    if not isinstance(layer, MultiHeadAttention) or b.shape != x.step.shape[-1:] or np.any(layer.params.get("bo", 0)):
        return None
    biased = MultiHeadAttention(layer.heads, layer.causal, rotary=layer.rotary)
    biased.params.update(
        {key: layer.params[key] if key in layer.params else np.zeros_like(b) for key in _in_order(biased)}
    )
    biased.params["bo"] = reader.weights(b, "bias")
    return Signal(Step(node.outputs[0], biased, *x.step.inputs, shape=x.step.shape), x.axes)


def _map(step: Step) -> tuple[Step, HostArray, HostArray | None]:
    """Return the value that a map of positions takes, its weights and its bias; also of a part of a wider map."""
    layer, columns = step.layer, slice(None)
    if isinstance(layer, Slice) and layer.axis in (2, -1):
        columns, step = slice(layer.start, layer.stop), step.inputs[0]
        layer = step.layer
    if not isinstance(layer, Affine) or layer.axis != -1:
        raise Unmapped("its queries, keys and values are not computed by weights, as in a layer")
    b = None if layer.b is None else np.asarray(layer.b)[columns]
    return step.inputs[0], np.ascontiguousarray(np.asarray(layer.W)[:, columns]), b
