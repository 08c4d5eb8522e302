"""Sizes and costs of layers against figures worked out by hand."""

from typing import Any

import pytest

import xpdl
from xpdl.backends import use
from xpdl.errors import ShapeError
from xpdl.layers import (
    GRU,
    LSTM,
    RNN,
    Affine,
    AveragePooling,
    BatchNormalization,
    Bidirectional,
    Convolution,
    ConvolutionTranspose,
    Dropout,
    Elu,
    Embedding,
    Flatten,
    Gelu,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GroupNormalization,
    Identity,
    Layer,
    LayerNormalization,
    LeakyRelu,
    LearnedPositions,
    LogSoftmax,
    MultiHeadAttention,
    Pooling,
    Relu,
    Residual,
    RMSNormalization,
    Sigmoid,
    Silu,
    SinusoidalPositions,
    Softmax,
    SoftmaxWithLoss,
    Softplus,
    Tanh,
    UpSampling,
)
from xpdl.models import DeepConvNet, Sequential, SimpleConvNet
from xpdl.models.flops import flop
from xpdl.models.summary import layer_costs

# (output, parameters, FLOP) by the book's tables: filter values x positions x 2, comparisons of the pooling, one per relu
SIMPLE = {
    "Conv1": ((30, 24, 24), 30 * 25 + 30, 24 * 24 * 30 * 25 * 2),
    "Relu1": ((30, 24, 24), 0, 17280),
    "Pool1": ((30, 12, 12), 0, 4320 * 3),
    "Affine1": ((100,), 4320 * 100 + 100, 4320 * 100 * 2),
    "Relu2": ((100,), 0, 100),
    "Affine2": ((10,), 1010, 2000),
}
DEEP = {
    "Conv1": ((16, 28, 28), 16 * 9 + 16, 784 * 16 * 9 * 2),
    "Relu1": ((16, 28, 28), 0, 12544),
    "Conv2": ((16, 28, 28), 16 * 16 * 9 + 16, 784 * 16 * 144 * 2),
    "Relu2": ((16, 28, 28), 0, 12544),
    "Pool1": ((16, 14, 14), 0, 3136 * 3),
    "Conv3": ((32, 14, 14), 32 * 144 + 32, 196 * 32 * 144 * 2),
    "Relu3": ((32, 14, 14), 0, 6272),
    "Conv4": ((32, 16, 16), 32 * 288 + 32, 256 * 32 * 288 * 2),
    "Relu4": ((32, 16, 16), 0, 8192),
    "Pool2": ((32, 8, 8), 0, 2048 * 3),
    "Conv5": ((64, 8, 8), 64 * 288 + 64, 64 * 64 * 288 * 2),
    "Relu5": ((64, 8, 8), 0, 4096),
    "Conv6": ((64, 8, 8), 64 * 576 + 64, 64 * 64 * 576 * 2),
    "Relu6": ((64, 8, 8), 0, 4096),
    "Pool3": ((64, 4, 4), 0, 1024 * 3),
    "Affine1": ((50,), 1024 * 50 + 50, 1024 * 50 * 2),
    "Relu7": ((50,), 0, 50),
    "Dropout1": ((50,), 0, 50),
    "Affine2": ((10,), 510, 1000),
    "Dropout2": ((10,), 0, 10),
}


@pytest.mark.parametrize(("make", "by_hand"), [(SimpleConvNet, SIMPLE), (DeepConvNet, DEEP)])
@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4), ("float64", 8)])
def test_the_books_nets(make: Any, by_hand: Any, dtype: str, size: int) -> None:
    with use("numpy", dtype=dtype):
        model = make()
    costs = {cost.path: cost for cost in layer_costs(model, model.input_shape)}
    assert {path: (c.output_shape, c.parameters, c.flop) for path, c in costs.items()} == by_hand
    assert all(c.parameter_bytes == size * c.parameters for c in costs.values() if c.parameters is not None)
    values = {(30, 24, 24): 17280, (16, 28, 28): 12544, (100,): 100}
    seen = {c.output_shape: c.activation_bytes for c in costs.values()}
    assert all(seen[shape] == size * count for shape, count in values.items() if shape in seen)


@pytest.mark.parametrize(
    ("layer", "input_shape", "count"),
    [
        (Convolution(filters=4, size=(3, 2), stride=2, groups=2, dilation=2), (6, 9, 8), 2 * (4 * 3 * 3) * (3 * 3 * 2)),
        (Affine(units=3, use_bias=False), (2, 5), 2 * 10 * 3),
        (Pooling(3, 3, 1), (2, 5, 5), 18 * 8),
        (AveragePooling(2, 2), (2, 5, 5), 8 * 4),
        (Embedding(9, 3), (4,), 0),
        (RNN(5), (4, 3), 4 * (2 * 8 * 5 + 2 * 5)),
        (LSTM(5), (4, 3), 4 * (2 * 8 * 20 + 22 * 5)),
        (GRU(5, return_sequences=False), (4, 3), 4 * (2 * 8 * 15 + 17 * 5)),
        (Bidirectional(RNN(5)), (4, 3), 0),
        (MultiHeadAttention(2), (5, 4), 4 * (2 * 5 * 4 * 4) + 2 * (2 * 5 * 5 * 4) + 2 * 5 * 5 * 5),
        (SinusoidalPositions(), (5, 4), 20),
        (LearnedPositions(6), (5, 4), 20),
        (Affine(units=3, axis=-1), (4, 5), 4 * (2 * 5 * 3)),
        (GlobalAveragePooling(), (2, 5, 5), 50),
        (GlobalMaxPooling(), (2, 5, 5), 2 * 24),
        (Convolution(filters=4, size=(3,), pad="same", groups=2), (2, 5), 2 * 20 * 3),
        (Convolution(filters=4, size=(2, 3, 1)), (2, 3, 4, 5), 2 * (4 * 2 * 2 * 5) * 2 * 6),
        (ConvolutionTranspose(filters=4, size=3, groups=2, stride=2, pad=1), (2, 5, 4), 2 * 40 * 2 * 9),
        (UpSampling(3), (2, 5, 4), 0),
        (UpSampling((2, 3), mode="linear"), (2, 5, 4), 3 * (80 + 240)),
        (LayerNormalization(), (2, 5), 80),
        (GroupNormalization(2), (2, 5), 80),
        (RMSNormalization(), (2, 5), 40),
        (LeakyRelu(), (7,), 14),
        (Elu(), (7,), 28),
        (Silu(), (7,), 35),
        (Softplus(), (7,), 42),
        (LogSoftmax(), (7,), 34),
        (Gelu(), (7,), 35),
        (Gelu("tanh"), (7,), 63),
        (BatchNormalization(), (2, 5, 5), 200),
        (Relu(), (7,), 7),
        (Tanh(), (7,), 7),
        (Sigmoid(), (7,), 28),
        (Softmax(), (7,), 6 + 7 + 7 + 6 + 7),
        (Dropout(0.2), (7,), 7),
        (Dropout(0.2, inverted=True), (7,), 0),
        (Flatten(), (2, 3), 0),
        (Identity(), (2, 3), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_each_kind_of_layer(layer: Layer, input_shape: tuple[int, ...], count: int) -> None:
    layer.build(input_shape)
    assert flop(layer, input_shape) == count


def nested() -> Sequential:
    inner = Sequential(Affine(units=4), Relu())
    block = Residual(("inner", inner), Affine(units=5), shortcut=Affine(units=5, use_bias=False))
    return Sequential(Affine(units=3), ("block", block), Flatten(), loss=SoftmaxWithLoss)


def test_layers_inside_blocks_have_rows_and_the_block_its_sum() -> None:
    model = nested()
    model.build((2,))
    rows = [
        (c.path, c.output_shape, c.parameters, c.activation_bytes, c.flop)
        for c in layer_costs(model, model.input_shape)
    ]
    assert rows == [
        ("Affine1", (3,), 9, 12, 12),
        ("block.body.inner.Affine1", (4,), 16, 16, 24),
        ("block.body.inner.Relu1", (4,), 0, 16, 4),
        ("block.body.Affine1", (5,), 25, 20, 40),
        ("block.shortcut.Affine1", (5,), 15, 20, 30),
        ("block", (5,), 0, 20, 5),
        ("Flatten1", (5,), 0, 0, 0),
    ]


def test_the_last_line_has_the_sums(capsys: pytest.CaptureFixture[str]) -> None:
    nested().summary((2,))
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "65", "260", "104", "115"]


class Twice(Layer):
    def forward(self, x: Any) -> Any:
        return 2 * x


def test_a_layer_without_a_formula_leaves_the_sum_open(capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential(Affine(units=3), Twice())
    model.summary((2,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["Twice1", "Twice", "(N,", "3)", "0", "0", "12", "?"]
    assert lines[-1].split() == ["total", "9", "36", "24", "?"]


def test_a_formula_of_ones_own() -> None:
    class Thrice(Layer):
        pass

    flop.register(Thrice, lambda layer, shape: shape[0])
    assert flop(Thrice(), (3,)) == 3
    assert flop(Twice(), (3,)) is None


def test_given_weights_and_an_input_shape(capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential(Affine(xpdl.asarray([[1.0], [2.0]])))
    model.summary((2,))
    assert "(N, 1)" in capsys.readouterr().out
    model.summary()
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "2", "8", "?", "?"]
    with pytest.raises(ShapeError, match="Affine1"):
        model.summary((3,))
