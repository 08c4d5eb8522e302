"""Layers of matrix products with constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.embedding import Embedding
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.onnx import attention
from xpdl.onnx.arithmetic import add, scaled
from xpdl.onnx.arranging import arranged
from xpdl.onnx.attention_layer import layer_of
from xpdl.onnx.importing import Reader, bias_of, features_of, ordered, then
from xpdl.onnx.nodes import BATCH, Given, Node, Signal, constant, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Step


def gemm(node: Node, reader: Reader, x: Given, W: Given, b: Given = None) -> Signal:
    """Return ``x W + b`` with constant weights, and a bias that may be computed, too."""
    weights = reader.weights(W, "weights")
    if weights.ndim != 2:
        raise Unmapped(f"its weights have shape {weights.shape}")
    weights = weights.T if node.integer("transB", 0) else weights
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    weights = weights if alpha == 1.0 else weights * weights.dtype.type(alpha)
    x = signal(x)
    if node.integer("transA", 0):
        x = Signal(x.step, x.axes[::-1], x.order)
        if x.axes[-1:] == (BATCH,):
            raise Unmapped(
                "transA=1 mixes the rows of a batch", "if the input of the file is one row, read it with batched=False"
            )
    if isinstance(b, Signal):
        other = b if beta == 1.0 else scaled(node, reader, b, np.asarray(beta))
        return add(node, reader, _affine(node, x, weights, None), other)
    bias = None if b is None else reader.weights(b, "bias")
    bias = bias if bias is None or beta == 1.0 else bias * bias.dtype.type(beta)
    if bias is not None and BATCH not in x.axes and bias.ndim == 2 and 1 not in bias.shape:
        return add(node, reader, _affine(node, x, weights, None), bias)
    return _affine(node, x, weights, None if bias is None else bias_of(bias, weights.shape[1]))


def _affine(node: Node, x: Signal, weights: HostArray, bias: HostArray | None) -> Signal:
    if BATCH not in x.axes and len(x.axes) == len(x.real) == 2:
        return then(node, arranged(node.outputs[0], x), Affine(np.ascontiguousarray(weights), bias, axis=-1))
    features = features_of(x)
    y = then(node, features, Affine(np.ascontiguousarray(ordered(features, weights)), bias), (features.axes[0], 0))
    return Signal(y.step, y.axes)


def matmul(node: Node, reader: Reader, x: Given, W: Given) -> Signal:
    """Return the products of the vectors along the last axis with constant weights."""
    x = signal(x)
    if isinstance(W, Signal):
        return attention.product(node, x, W)
    tied = _tied(node, reader, x, constant(W, "second input"))
    if tied is not None:
        return tied
    weights = reader.weights(W, "second input")
    if weights.ndim != 2:
        raise Unmapped(f"its weights have shape {weights.shape}")
    if isinstance(x.step.layer, attention.Joined) and x.is_plain:
        return layer_of(node, reader, x, weights)
    if len(x.real) > 1 and x.axes[-1] >= 0:
        return then(node, arranged(node.outputs[0], x), Affine(weights, axis=-1))
    return _affine(node, x, weights, None)


def _tied(node: Node, reader: Reader, x: Signal, W: HostArray) -> Signal | None:
    """Return the scores of the rows of a table that ids were looked up in; None of other weights."""
    same = [step for table, step in reader.tables if _is_transposed(table, W)]
    if len({step.layer for step in same}) != 1 or not x.is_plain or x.axes[-1] < 0 or W.shape[0] != x.step.shape[-1]:
        return None
    words = same[0].layer
    if not isinstance(words, Embedding) or isinstance(words, TiedEmbedding):
        return None
    table = TiedEmbedding(W=words.W)
    for step in same:
        step.layer = table
    return then(node, x, TiedScores(table))


def _is_transposed(table: HostArray, W: HostArray) -> bool:
    """Return whether `W` is the transposed table itself, and not other numbers that are the same."""
    return (
        W.shape == table.shape[::-1]
        and W.strides == table.strides[::-1]
        and np.may_share_memory(W, table)
        and W.ndim == 2
    )


def untie(steps: Sequence[Step]) -> None:
    """Make embeddings of tables whose scores are not among the steps, as where an output before them was asked for."""
    scored = [step.layer.embedding for step in steps if isinstance(step.layer, TiedScores)]
    tables = {step.layer for step in steps if isinstance(step.layer, TiedEmbedding)}
    plain = {table: Embedding(W=table.W) for table in tables if table not in scored}
    for step in steps:
        if isinstance(step.layer, TiedEmbedding):
            step.layer = plain.get(step.layer, step.layer)
