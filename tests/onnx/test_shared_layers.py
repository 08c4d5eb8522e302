"""Layers in several places of a model: their weights are in the file once, and come back as one layer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.onnx.graphs import Builder, loaded_from
from tests.onnx.test_export import loaded
from tests.onnx.test_export_sequences import built
from xpdl import layers as L

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.exhaustive]

RNG = np.random.default_rng(0)

#: every layer with parameters that takes sequences (4, 3)
LAYERS: list[Callable[[], Any]] = [
    lambda: L.Affine(units=3),
    lambda: L.Affine(units=3, axis=-1),
    lambda: L.Affine(units=3, axis=-1, use_bias=False),
    L.BatchNormalization,
    lambda: L.Bidirectional(L.LSTM(3)),
    lambda: L.Bidirectional(L.GRU(3, return_sequences=False)),
    lambda: L.Chain(L.Affine(units=3, axis=-1), L.RMSNormalization(), L.Gelu()),
    lambda: L.Convolution(filters=3, size=(3,)),
    lambda: L.ConvolutionTranspose(filters=3, size=(2,)),
    lambda: L.GRU(5),
    lambda: L.GRU(5, return_sequences=False),
    lambda: L.GroupNormalization(2),
    lambda: L.GroupNormalization(4),
    lambda: L.LSTM(5),
    L.LayerNormalization,
    lambda: L.LearnedPositions(4),
    lambda: L.LearnedPositions(6),
    lambda: L.MultiHeadAttention(1),
    lambda: L.MultiHeadAttention(3, True, use_bias=False),
    lambda: L.RMSNormalization(1e-3),
    lambda: L.RNN(3),
    lambda: L.Residual(L.RMSNormalization(), L.Affine(units=3, axis=-1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make())[:60])
def test_a_layer_in_two_places_comes_back_as_one(make: Any, dtype: str, tmp_path: Any) -> None:
    layer, a, b = make(), xpdl.Input((4, 3), "a"), xpdl.Input((4, 3), "b")
    net = built(xpdl.Graph([a, b], L.Concatenate()(layer(a), layer(b)), loss=L.MeanSquaredError, seed=0), dtype)
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    with xpdl.use("numpy", dtype=dtype):
        again = xpdl.onnx.load(tmp_path / "x.onnx")
    tensors = loaded(tmp_path / "x.onnx").graph.initializer
    assert len({one.raw_data for one in tensors}) == len(tensors)
    xs = tuple(RNG.standard_normal((5, 4, 3)).astype(dtype) for _ in range(2))
    y = net.predict(xs)
    ulps = 4e-15 if dtype == "float64" and make is L.BatchNormalization else 0.0
    np.testing.assert_allclose(again.predict(xs), y, rtol=ulps, atol=ulps)
    for model in (net, again):
        xpdl.SGD(lr=0.1).update(model.params, model.gradient(xs, np.zeros_like(y)))
    assert len(net.params) == len(again.params)
    for one, other in zip(net.params.values(), again.params.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_table_for_two_inputs_and_the_scores(tmp_path: Any) -> None:
    """As in a translator with one vocabulary; other programs transpose the table once for each."""
    g, TensorProto = Builder(), importlib.import_module("onnx").TensorProto
    W = g.constant(7, 4)
    y = g.node("Add", g.node("Gather", W, "x"), g.node("Gather", W, "y"))
    proto = g.model(g.node("MatMul", y, g.node("Transpose", W, perm=[1, 0])), ("n", 5))
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "y"
    for one in proto.graph.input:
        one.type.tensor_type.elem_type = TensorProto.INT64
    net = loaded_from(proto, tmp_path, loss=xpdl.SoftmaxWithLoss)
    assert [array.shape for array in net.params.values()] == [(7, 4)]
    xs = {name: RNG.integers(0, 7, (3, 5)) for name in "xy"}
    (expected,) = importlib.import_module("onnx.reference").ReferenceEvaluator(proto).run(None, xs)
    np.testing.assert_allclose(net.predict(xs), expected, atol=1e-5)
    net.save(tmp_path / "x.safetensors")
    again = xpdl.load_model(tmp_path / "x.safetensors")
    for model in (net, again):
        xpdl.SGD(lr=0.1).update(model.params, model.gradient(xs, RNG.integers(0, 7, (3, 5)) * 0 + 2))
    for one, other in zip(net.params.values(), again.params.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_weights_of_two_layers_stay_apart(tmp_path: Any) -> None:
    x = xpdl.Input((3,))
    W = np.ones((3, 3), np.float32)
    net = xpdl.Graph(x, L.Affine(W.copy())(L.Affine(W.copy())(x)))
    net.build()
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    assert len(xpdl.onnx.load(tmp_path / "x.onnx").params) == 2
