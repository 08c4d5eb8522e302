"""Graphs of layers of sequences in onnxruntime: contexts, masks, positions, several layers in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.onnx.test_export import assert_same, loaded, runner
from xpdl import (
    Affine,
    Bidirectional,
    Embedding,
    Graph,
    Input,
    LearnedPositions,
    MultiHeadAttention,
    Residual,
    Sequential,
)

pytestmark = [pytest.mark.needs("onnx", "onnxruntime"), pytest.mark.exhaustive]

RNG = np.random.default_rng(0)


def built(net: Any, dtype: str = "float32", shape: Any = None) -> Any:
    """The model, with parameters none of which is 0."""
    with xpdl.use("numpy", dtype=dtype):
        net.build(*([] if shape is None else [shape]))
    for _, owner, key in net.named_params():
        owner[key] = owner[key] + 0.1 * RNG.standard_normal(owner[key].shape).astype(dtype)
    return net


def check(net: Any, xs: dict[str, Any], path: Any, dtype: str = "float32") -> None:
    xpdl.onnx.export(net, path)
    for rows in nonempty([slice(None), slice(1)]):
        given = {name: x[rows] for name, x in xs.items()}
        (got,) = runner(path)(given)
        assert_same(got, net.predict(tuple(given.values()) if len(given) > 1 else given["x"]), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(2, 4), (4, 2), (3, 3)])
def test_attention_to_a_masked_context(
    lengths: tuple[int, int], causal: bool, rotary: bool, dtype: str, tmp_path: Any
) -> None:
    """Also of queries that see no key: by a mask, or before the first, where there are more queries than keys."""
    t, s = lengths
    x, context, mask = Input((t, 8), "x"), Input((s, 8), "context"), Input((s,), "mask")
    layer = MultiHeadAttention(2, causal, rotary=rotary)
    net = built(Graph((x, context, mask), layer(x, context, mask)), dtype)
    xs = {"x": RNG.standard_normal((3, t, 8)).astype(dtype), "context": RNG.standard_normal((3, s, 8)).astype(dtype)}
    keep = RNG.random((3, s)) < 0.5
    keep[1] = False
    check(net, {**xs, "mask": keep}, tmp_path / "x.onnx", dtype)


def test_a_small_transformer(tmp_path: Any) -> None:
    def block() -> list[Any]:
        return [
            Residual(xpdl.LayerNormalization(), MultiHeadAttention(2, True)),
            Residual(xpdl.RMSNormalization(), Affine(units=12, axis=-1), xpdl.Gelu(), Affine(units=6, axis=-1)),
        ]

    net = Sequential(
        Embedding(9, 6, init=0.5), LearnedPositions(8), *block(), *block(), Affine(units=9, axis=-1), seed=0
    )
    check(built(net, shape=(5,)), {"x": RNG.integers(0, 9, (3, 5))}, tmp_path / "x.onnx")


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_gpt_for_texts_shorter_than_its_context(tied: bool, rotary: bool, tmp_path: Any) -> None:
    with xpdl.use("numpy", dtype="float32"):
        net = built(xpdl.GPT(9, 8, 8, heads=2, depth=2, tied=tied, rotary=rotary, seed=0), shape=(8,))
    for length in nonempty((8, 3)):
        xpdl.onnx.export(net, tmp_path / "x.onnx", (length,))
        ids = RNG.integers(0, 9, (2, length))
        assert_same(runner(tmp_path / "x.onnx")(ids), net.predict(ids), "float32")


def test_a_language_model_with_tied_weights(tmp_path: Any) -> None:
    net = built(xpdl.RnnLm(9, 4, 4, stateful=False, seed=0), shape=(5,))
    check(net, {"x": RNG.integers(0, 9, (3, 5))}, tmp_path / "x.onnx")


def test_recurrent_layers_in_a_row(tmp_path: Any) -> None:
    net = Sequential(
        *(Embedding(9, 6, init=0.5), xpdl.SinusoidalPositions(), Bidirectional(xpdl.LSTM(4)), xpdl.GRU(5)),
        *(xpdl.RNN(4), Bidirectional(xpdl.GRU(3, return_sequences=False)), Affine(units=2)),
        seed=0,
    )
    check(built(net, shape=(5,)), {"x": RNG.integers(0, 9, (3, 5))}, tmp_path / "x.onnx")
    kinds = [node.op_type for node in loaded(tmp_path / "x.onnx").graph.node]
    assert [kind for kind in kinds if kind in ("LSTM", "GRU", "RNN")] == ["LSTM", "GRU", "RNN", "GRU"]


def test_a_stateful_layer_begins_with_zeros(tmp_path: Any) -> None:
    net = built(Sequential(xpdl.LSTM(4, stateful=True), seed=0), shape=(3, 2))
    x = RNG.standard_normal((2, 3, 2)).astype("float32")
    net.forward(x)
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    got = runner(tmp_path / "x.onnx")(x)
    next(iter(net.layers.values())).reset_state()
    assert_same(got, net.forward(x), "float32")


RECURRENT: dict[str, Callable[[bool], Any]] = {
    "RNN": lambda steps: xpdl.RNN(3, return_sequences=steps),
    "LSTM": lambda steps: xpdl.LSTM(3, return_sequences=steps),
    "GRU": lambda steps: xpdl.GRU(3, return_sequences=steps),
    "both ways": lambda steps: Bidirectional(xpdl.LSTM(3, return_sequences=steps)),
}


@pytest.mark.parametrize("steps", [True, False])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_mask_of_the_first_steps(name: str, steps: bool, tmp_path: Any, capfd: Any) -> None:
    """Of any number of them, none as well; the runtime refuses another mask, and the loaded model takes it."""
    x, mask = Input((4, 2), "x"), Input((4,), "mask")
    net = built(Graph((x, mask), RECURRENT[name](steps)(x, mask)))
    xs = {"x": RNG.standard_normal((5, 4, 2)).astype("float32"), "mask": np.tri(5, 4, -1, dtype=bool)}
    check(net, xs, tmp_path / "x.onnx")
    loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    assert [type(one) for one in loaded.layers.values()] == [type(one) for one in net.layers.values()]
    np.testing.assert_array_equal(loaded.predict(xs), net.predict(xs))
    xs["mask"][2] = [True, False, True, False]
    with pytest.raises(Exception, match="Invalid value/s in sequence_lens"):
        runner(tmp_path / "x.onnx")(xs)
    np.testing.assert_array_equal(loaded.predict(xs), net.predict(xs))
