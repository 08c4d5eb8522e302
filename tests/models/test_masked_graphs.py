"""Graphs of sequences with masks and contexts: a mask is an input of booleans, beside the one that it masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import Affine, Bidirectional, Embedding, Graph, Input, MultiHeadAttention, SoftmaxWithLoss
from xpdl.errors import ShapeError
from xpdl.models.summary import layer_costs

RNG = np.random.default_rng(0)
MASK = np.arange(5) < RNG.integers(1, 6, (24, 1))
IDS = np.where(MASK, RNG.integers(1, 7, (24, 5)), 0)
T = IDS[:, 0] % 3
X = {"ids": IDS, "mask": MASK}

LAYERS: dict[str, Any] = {
    "attention": lambda h, mask: xpdl.RNN(4, return_sequences=False)(MultiHeadAttention(2)(h, h, mask), mask),
    "RNN": lambda h, mask: xpdl.RNN(4, return_sequences=False)(h, mask),
    "LSTM": lambda h, mask: xpdl.LSTM(4, return_sequences=False)(h, mask),
    "both directions": lambda h, mask: Bidirectional(xpdl.GRU(4, return_sequences=False))(h, mask),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
exhaustive_but_one = pytest.mark.quick(lambda name: name == "attention")


def graph(name: str, dtype: str = "float32") -> Any:
    ids, mask = Input((5,), name="ids"), Input((5,), name="mask")
    h = LAYERS[name](Embedding(7, 6, init=0.5)(ids), mask)
    net = Graph((ids, mask), Affine(units=3)(h), loss=SoftmaxWithLoss(), seed=0)
    with xpdl.use("numpy", dtype=dtype):
        net.build()
    return net


def costs(net: Any) -> list[int | None]:
    return [cost.flop for cost in layer_costs(net, net.input_shape)]


@exhaustive_but_one
@each_layer
def test_what_is_masked_changes_nothing(name: str) -> None:
    net = graph(name, "float64")
    y = net.predict(X)
    np.testing.assert_allclose(net.predict((np.where(MASK, IDS, 3), MASK)), y, rtol=1e-12)
    assert not np.allclose(net.predict((np.where(MASK, IDS, 3), np.ones_like(MASK))), y)


@exhaustive_but_one
@each_layer
def test_gradients_go_past_the_mask(name: str) -> None:
    net = graph(name)
    report = xpdl.check_gradients(net, (IDS[:4], MASK[:4]), T[:4])
    assert report.passed
    assert list(net.input_gradient((IDS[:4], MASK[:4]), T[:4])) == [None, None]


@pytest.mark.exhaustive
@each_layer
def test_trains_and_is_kept(name: str, tmp_path: Any) -> None:
    net = graph(name)
    options: Any = {"optimizer": "Adam", "optimizer_param": {"lr": 0.02}, "verbose": False, "seed": 0}
    history = xpdl.Trainer(net, X, T, X, T, epochs=60, mini_batch_size=8, **options).train()
    assert history.test_acc_list[-1] > 0.9
    net.save(tmp_path / "net.xpdl")
    np.testing.assert_array_equal(xpdl.load_model(tmp_path / "net.xpdl").predict(X), net.predict(X))


@pytest.mark.exhaustive
@each_layer
def test_costs_are_those_without_the_mask(name: str) -> None:
    ids = Input((5,))
    h = Embedding(7, 6)(ids)
    alone = {
        "attention": lambda: xpdl.RNN(4, return_sequences=False)(MultiHeadAttention(2)(h)),
        "RNN": lambda: xpdl.RNN(4, return_sequences=False)(h),
        "LSTM": lambda: xpdl.LSTM(4, return_sequences=False)(h),
        "both directions": lambda: Bidirectional(xpdl.GRU(4, return_sequences=False))(h),
    }[name]()
    other = Graph(ids, Affine(units=3)(alone), loss=SoftmaxWithLoss(), seed=0)
    other.build()
    assert costs(graph(name)) == costs(other)


def test_attention_to_a_context_of_another_length() -> None:
    x, context = Input((2, 4)), Input((3, 4))
    net = Graph((x, context), MultiHeadAttention(2)(x, context), loss=xpdl.MeanSquaredError(), seed=0)
    assert net.build() == (2, 4)
    data = RNG.standard_normal((3, 2, 4)), RNG.standard_normal((3, 3, 4))
    assert xpdl.check_gradients(net, data, RNG.standard_normal((3, 2, 4))).passed
    # of maps 4 (2 + 3) 4 4, of scores and sums 4 2 3 4, of the softmax of two heads 2 5 2 3
    assert costs(net) == [320 + 96 + 60]


def test_a_context_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        ShapeError, match=r"context must be sequences \(N, S, 4\), got rows of shape \(3, 6\); called with"
    ):
        MultiHeadAttention(2)(Input((2, 4)), Input((3, 6)))
