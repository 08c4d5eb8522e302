"""Layers made in the order of arguments of other libraries: one error that says how they are made here."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl.layers import option_order

W = np.zeros((3, 2), "float32")
FILTERS = np.zeros((2, 1, 3, 3), "float32")
AT_FIRST = "the size of the input is taken from the first one"

#: call -> the layer that is meant, as the message ends
MISTAKES = {
    "Affine(784, 10)": "Affine(units=10)",
    "Affine(10)": "Affine(units=10)",
    "Affine(784, 10, True)": "Affine(units=10)",
    "Affine(10, 'relu')": "Affine(units=10)",
    "Convolution(1, 30, 5)": "Convolution(filters=30, size=5)",
    "Convolution(1, 30, (5, 3))": "Convolution(filters=30, size=(5, 3))",
    "Convolution(1, 30, 5, 2, 1)": "Convolution(filters=30, size=5, stride=2, pad=1)",
    "Convolution(30, 5)": "Convolution(filters=30, size=5)",
    "Convolution(30, (5, 5))": "Convolution(filters=30, size=(5, 5))",
    "Convolution(30)": "Convolution(filters=30, size=3)",
    "ConvolutionTranspose(8, 4, 3)": "ConvolutionTranspose(filters=4, size=3)",
    "RNN(10, 20)": "RNN(20)",
    "LSTM(10, 20)": "LSTM(20)",
    "LSTM(10, 20, 2)": "LSTM(20)",
    "GRU(10, 20)": "GRU(20)",
    "LayerNormalization(16)": "LayerNormalization()",
    "LayerNormalization([16])": "LayerNormalization()",
    "LayerNormalization((4, 4))": "LayerNormalization()",
    "RMSNormalization(16)": "RMSNormalization()",
    "GroupNormalization(4, 16)": "GroupNormalization(4)",
    "BatchNormalization(16)": "BatchNormalization()",
    "BatchNormalization(16, 1e-5)": "BatchNormalization()",
    "MultiHeadAttention(16, 4)": "MultiHeadAttention(4)",
    "MultiHeadAttention(16, 4, 0.1)": "MultiHeadAttention(4)",
    "LearnedPositions(10, 4)": "LearnedPositions(10)",
    "Reshape(2, 3)": "Reshape((2, 3))",
    "Permute(2, 1)": "Permute((2, 1))",
    "Flatten(1)": "Flatten()",
    "Flatten(1, -1)": "Flatten()",
}


@pytest.mark.parametrize("call", MISTAKES)
def test_the_order_of_another_library_is_refused_with_the_layer_that_is_meant(call: str) -> None:
    name, meant = call.partition("(")[0], MISTAKES[call]
    with pytest.raises(TypeError) as caught:
        eval(f"xpdl.{call}")
    first, _, cure = str(caught.value).partition(" by position; ")
    assert first == f"{name}: got {call.replace('1e-5', '1e-05')}"
    made = cure.rpartition(": ")[2] if name != "BatchNormalization" else cure.partition(": ")[2].partition(";")[0]
    assert made == meant and repr(eval(f"xpdl.{meant}"))


@pytest.mark.parametrize(
    "call",
    [
        *(
            "Affine(W)",
            "Affine(W, 0)",
            "Affine(units=3)",
            "Convolution(FILTERS, 0, 1, 1)",
            "LSTM(8)",
            "Embedding(10, 4)",
        ),
        *(
            "LayerNormalization()",
            "LayerNormalization(1e-6)",
            "GroupNormalization(2, 1e-6)",
            "MultiHeadAttention(2, True)",
        ),
        *("BatchNormalization(1, 0)", "BatchNormalization(1.0, 0.0)", "BatchNormalization(gamma=2)", "Reshape((2, 3))"),
        *("LearnedPositions(4)", "Pooling(2, 2)", "Dropout(0.5)", "LeakyRelu(0.2)", "Softmax(1)", "Flatten()"),
    ],
)
def test_the_order_of_this_library_is_taken(call: str) -> None:
    assert eval(f"xpdl.{call}", {"xpdl": xpdl, "W": W, "FILTERS": FILTERS}) is not None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("Relu(True)", "Relu: got 1 arguments by position, and takes none; name the others"),
        ("LSTM(8.5, 3)", "LSTM: got 2 arguments by position, and takes those of units; name the others"),
        (
            "MultiHeadAttention(2, True, True)",
            "MultiHeadAttention: got 3 arguments by position, and takes those of heads,",
        ),
    ],
)
def test_more_arguments_than_there_are_by_position(call: str, says: str) -> None:
    with pytest.raises(TypeError, match=f"^{says}"):
        eval(f"xpdl.{call}")


def test_layers_of_ones_own_have_their_own_order() -> None:
    class Affine(xpdl.Layer):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.sizes = inputs, outputs

    class Mapped(xpdl.Affine):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(units=outputs)

    assert Affine(784, 10).sizes == (784, 10) and Mapped(784, 10).units == 10


def test_each_cure_is_of_a_constructor_that_there_is() -> None:
    layers: list[Any] = [one for name in xpdl.__all__ if inspect.isclass(one := getattr(xpdl, name))]
    owners = {base.__name__ for kind in layers for base in kind.__mro__ if "__init__" in vars(base)}
    assert option_order._CURES.keys() <= owners
