"""Damaged and nonsensical ONNX files: each is a model or one error, in bounded memory."""

from __future__ import annotations

import importlib
import signal
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.onnx.graphs import Builder
from tests.onnx.test_load_graphs import keras_conv_net
from xpdl import layers as L

pytestmark = pytest.mark.needs("onnx")

#: sizes, axes and counts that no operator means
EXTREMES = [0, 1, -1, 2, 7, -7, 2**31 - 1, -(2**31), 2**62, -(2**63)]
OPERATORS = ["Add", "Mul", "Conv", "Gemm", "MatMul", "Reshape", "Transpose", "Flatten", "Softmax", "Concat", "Shape"]
OPERATORS += [
    "LSTM",
    "GRU",
    "Attention",
    "Where",
    "Slice",
    "Split",
    "Gather",
    "Erf",
    "Pow",
    "ReduceSum",
    "And",
    "Expand",
]
OPERATORS += ["Range", "ConstantOfShape", "Trilu", "IsNaN", "Greater", "LayerNormalization", "BatchNormalization"]
OPERATORS += ["Squeeze", "Unsqueeze", "Sub", "Div", "Pad", "MaxPool", "AveragePool", "ReduceMean", "Constant", "Cast"]


def a_model() -> bytes:
    shortcut = L.Convolution(filters=3, size=1)
    block = L.Residual(L.Convolution(filters=3, size=3, pad=1), L.BatchNormalization(), shortcut=shortcut)
    head = [L.Relu(), L.Pooling(2, 2), L.Affine(units=4), L.Dropout(0.2), L.Silu(), L.Affine(units=3)]
    net = xpdl.Sequential(block, *head, loss=L.SoftmaxWithLoss, seed=0)
    net.build((2, 6, 6))
    model_file = importlib.import_module("xpdl.onnx.model_file")
    data: bytes = model_file._proto(net, (2, 6, 6), "softmax").SerializeToString()
    return data


def a_keras_graph() -> bytes:
    g = Builder()
    data: bytes = g.model(*keras_conv_net(g, "each in its own")).SerializeToString()
    return data


def a_view() -> bytes:
    """Arithmetic on shapes, and constants computed from constants."""
    g = Builder()
    x = g.node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    rows = g.node(
        "Unsqueeze",
        g.node("Gather", g.node("Shape", x), g.constant(values=np.array(0))),
        g.constant(values=np.array([0])),
    )
    x = g.node("Reshape", x, g.node("Concat", rows, g.constant(values=np.array([-1])), axis=0))
    W = g.node("Transpose", g.node("Mul", g.constant(4, 18), g.constant(4, 1)))
    data: bytes = g.model(g.node("Gemm", x, W, g.constant(1, 4)), ("n", 2, 6, 6)).SerializeToString()
    return data


def a_graph() -> bytes:
    """Two inputs, branches, several outputs, and constants that stay."""
    a, b = xpdl.Input((2, 6, 6), "a"), xpdl.Input((4,), "b")
    h = L.Relu()(L.Convolution(filters=3, size=3)(a))
    joined = L.Concatenate()(L.Slice(0, 9)(L.Flatten()(L.Permute((2, 3, 1))(h))), L.Multiply()(b, L.Tanh()(b)))
    net = xpdl.Graph([a, b], {"y": L.Affine(units=3)(joined), "z": L.Reshape((2, 2))(b)}, seed=0)
    return exported(net)


def a_transformer() -> bytes:
    """With tied weights, rotary positions, and gelu in pieces; a table large enough that changes may hit it."""
    return exported(xpdl.GPT(200, 4, 8, heads=2, depth=1, rotary=True, seed=0))


def recurrent_layers() -> bytes:
    """With a mask of steps, in both directions."""
    x, mask = xpdl.Input((4, 2), "x"), xpdl.Input((4,), "mask")
    h = L.Bidirectional(L.LSTM(2))(x, mask)
    net = xpdl.Graph([x, mask], L.GRU(2, return_sequences=False)(L.LeakyRelu()(h), mask), seed=0)
    return exported(net)


def exported(net: Any) -> bytes:
    if not net.built:
        net.build()
    model_file = importlib.import_module("xpdl.onnx.model_file")
    data: bytes = model_file._proto(net, net.input_shape, None).SerializeToString()
    return data


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with some of them changed, removed or repeated."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, kind = int(rng.integers(len(changed))), rng.integers(4)
        if kind < 2:
            changed[at] = int(rng.integers(256))
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 9))]
        else:
            changed[at:at] = changed[at : at + int(rng.integers(1, 9))]
    return bytes(changed)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A file that is whole, and says something else."""
    proto = importlib.import_module("onnx").ModelProto.FromString(data)
    for _ in range(rng.integers(1, 4)):
        MUTATIONS[rng.integers(len(MUTATIONS))](proto, rng)
    changed: bytes = proto.SerializeToString()
    return changed


def one(values: Any, rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _kind(proto: Any, rng: np.random.Generator) -> None:
    one(proto.graph.node, rng).op_type = one(OPERATORS, rng)


def _input(proto: Any, rng: np.random.Generator) -> None:
    names = [name for node in proto.graph.node for name in (*node.input, *node.output)] + ["", "nowhere"]
    node = one(proto.graph.node, rng)
    if node.input and rng.integers(2):
        node.input[int(rng.integers(len(node.input)))] = one(names, rng)
    else:
        node.input.append(one(names, rng))


def _nodes(proto: Any, rng: np.random.Generator) -> None:
    nodes = list(proto.graph.node)
    if rng.integers(2):
        del nodes[int(rng.integers(len(nodes)))]
    else:
        nodes.insert(int(rng.integers(len(nodes))), one(nodes, rng))
    if nodes:
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)


def _attribute(proto: Any, rng: np.random.Generator) -> None:
    found = [attribute for node in proto.graph.node for attribute in node.attribute]
    attribute = one(found, rng)
    attribute.i, attribute.f = one(EXTREMES, rng), float(one([0, -1, 1e30, np.nan, np.inf], rng))
    if attribute.ints and rng.integers(2):
        attribute.ints[int(rng.integers(len(attribute.ints)))] = one(EXTREMES, rng)
    elif attribute.ints:
        attribute.ints.append(one(EXTREMES, rng))
    if not rng.integers(4):
        attribute.type = int(rng.integers(1, 9))


def _tensor(proto: Any, rng: np.random.Generator) -> None:
    tensor = one(proto.graph.initializer, rng)
    kind = rng.integers(5)
    if kind == 0 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = one(EXTREMES, rng)
    elif kind == 1:
        tensor.dims.append(one(EXTREMES, rng))
    elif kind == 2:
        tensor.data_type = int(rng.integers(0, 24))
    elif kind == 3 and tensor.raw_data:
        tensor.raw_data = rng.bytes(len(tensor.raw_data))
    else:
        tensor.data_location = 1
        tensor.external_data.add(key="location", value=one(["../x", "/dev/zero", "x.onnx", "", "a" * 300], rng))


def _shape(proto: Any, rng: np.random.Generator) -> None:
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    if dims and rng.integers(2):
        one(dims, rng).dim_value = one(EXTREMES, rng)
    elif dims and rng.integers(2):
        del dims[int(rng.integers(len(dims)))]
    else:
        dims.add().dim_value = one(EXTREMES, rng)


def _versions(proto: Any, rng: np.random.Generator) -> None:
    proto.opset_import[0].version = int(rng.integers(0, 30))


MUTATIONS: list[Callable[[Any, np.random.Generator], None]] = [
    *(_kind, _input, _nodes, _attribute, _tensor, _shape, _versions)
]


@pytest.fixture
def guarded() -> Iterator[None]:
    """Memory is traced, and a file that is never read to the end is an error."""

    def hung(*_: Any) -> None:
        raise AssertionError("a file was not read in five minutes")

    before = signal.signal(signal.SIGALRM, hung) if hasattr(signal, "SIGALRM") else None
    tracemalloc.start()
    yield
    tracemalloc.stop()
    if before is not None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


COUNTS = [pytest.param(60, id="short"), pytest.param(20_000, marks=pytest.mark.slow, id="long")]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("change", [flipped, mutated])
@pytest.mark.parametrize(
    "make",
    [
        a_model,
        a_keras_graph,
        a_view,
        a_graph,
        pytest.param(a_transformer, marks=pytest.mark.exhaustive),
        pytest.param(recurrent_layers, marks=pytest.mark.exhaustive),
    ],
)
def test_fuzzed_files(make: Any, change: Any, count: int, tmp_path: Path, guarded: None) -> None:
    data, path = make(), tmp_path / "x.onnx"
    path.write_bytes(data)
    xpdl.onnx.load(path)
    refused = 0
    for seed in range(count):
        changed = change(data, np.random.default_rng(seed))
        path.write_bytes(changed)
        if hasattr(signal, "SIGALRM"):
            signal.alarm(300)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of images with as many channels as pixels
                xpdl.onnx.load(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and len(str(error)) < 5000, seed
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert 0 < refused < count
    assert tracemalloc.get_traced_memory()[1] < 2**28
