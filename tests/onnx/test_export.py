"""Exported models in onnxruntime, against what xpdl computes; float64 in onnx's reference where onnxruntime has none."""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.layers.table import ROWS, Row
from xpdl import layers as L
from xpdl import models, use
from xpdl.bench import nets
from xpdl.layers.losses import LossLayer

pytestmark = pytest.mark.needs("onnx", "onnxruntime")

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
# in float64, on a CPU
NOT_IN_RUNTIME = {
    "Conv",
    "ConvTranspose",
    "Resize",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Elu",
    "Softplus",
    "RNN",
    "LSTM",
    "GRU",
}
# onnx's reference fails at transposed convolution in groups, and onnxruntime has none in float64
_BEYOND_REFERENCE = ("ConvolutionTranspose with everything", "float64")
each_dtype = pytest.mark.parametrize("dtype", sorted(TOLERANCES))


def runner(path: Any) -> Callable[[Any], Any]:
    """A function that computes the file's output for an input."""
    proto = importlib.import_module("onnx").load(path)
    importlib.import_module("onnx.checker").check_model(proto, full_check=True)
    kinds = {node.op_type for node in proto.graph.node}
    if proto.graph.input[0].type.tensor_type.elem_type == 11 and kinds & NOT_IN_RUNTIME:
        session = importlib.import_module("onnx.reference").ReferenceEvaluator(proto)
    else:
        session = importlib.import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, x)[:] if isinstance(x, dict) else session.run(None, {"x": x})[0]


def assert_same(got: Any, expected: Any, dtype: str) -> None:
    assert got.shape == expected.shape and got.dtype == expected.dtype == np.dtype(dtype)
    assert np.abs(got - expected).max() <= TOLERANCES[dtype] * np.abs(expected).max()


def test_variances_in_the_file_are_not_negative(tmp_path: Any) -> None:
    """Also where eps is below its float32, and the variance in float64 makes up for it."""
    layer = L.BatchNormalization(np.ones(2), np.ones(2), running_mean=np.ones(2), running_var=np.zeros(2), eps=1e-3)
    assert float(np.float32(1e-3)) > 1e-3
    xpdl.onnx.export(layer, tmp_path / "x.onnx", (2,))
    proto = loaded(tmp_path / "x.onnx")
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    (var,) = (to_array(one) for one in proto.graph.initializer if one.name == "running_var")
    (eps,) = (one.f for node in proto.graph.node for one in node.attribute if one.name == "epsilon")
    assert (var >= 0).all() and (var + eps == 1e-3).all()


@pytest.mark.needs("torch")
@each_dtype
def test_arrays_of_other_libraries(dtype: str, tmp_path: Any) -> None:
    net = after_training(nets.resnet((2, 4)), (3, 8, 8), dtype)
    x = np.ones((2, 3, 8, 8), dtype)
    expected = net.predict(x)
    xpdl.onnx.export(net.to("torch"), tmp_path / "x.onnx")
    assert_same(runner(tmp_path / "x.onnx")(x), expected, dtype)


class Twice(L.Layer):
    """A node of a graph, both of whose inputs are the layer's."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Any) -> Any:
        return self.node.forward(x, x)

    def backward(self, dout: Any) -> Any:
        return sum(self.node.backward(dout))

    def to_onnx(self, graph: Any, x: Any) -> Any:
        return graph.add(self.node, x, x)


def model_of(row: Row, arrays: dict[str, Any]) -> tuple[Any, str | None]:
    """The row's layer, exported by itself, and an activation: of a loss, which is the last layer of a model."""
    layer = row.make(arrays)
    if isinstance(layer, LossLayer):
        names = {L.SoftmaxWithLoss: "softmax", L.SigmoidWithLoss: "sigmoid", L.IdentityWithLoss: None}
        return xpdl.Sequential(L.Identity(), loss=layer), names.get(type(layer))
    return (layer if isinstance(layer, L.Layer) else Twice(layer)), None


def test_the_table_has_every_layer() -> None:
    public = {getattr(L, name) for name in L.__all__} - {L.Layer, LossLayer}
    assert public <= {row.cls for row in ROWS}


# of nodes of the book, `Twice` gives the second input; a loss has targets
SEVERAL = [row for row in ROWS if len(row.inputs) > 1 and row.cls in (L.Add, L.Multiply, L.Concatenate)]


@each_dtype
@pytest.mark.parametrize("row", SEVERAL, ids=lambda row: row.id)
def test_every_layer_of_several_inputs(row: Row, dtype: str, tmp_path: Any) -> None:
    xs = {f"in{place}": x.astype(dtype) for place, x in enumerate(row.inputs)}
    nodes = [xpdl.Input(x.shape[1:], name) for name, x in xs.items()]
    with use("numpy", dtype=dtype):
        model = xpdl.Graph(nodes, {"other": nodes[0], "joined": row.make({})(*nodes)})
        xpdl.onnx.export(model, tmp_path / "x.onnx")
    for got, want in nonempty(zip(runner(tmp_path / "x.onnx")(xs), model.forward(xs).values(), strict=True)):
        assert_same(got, want, dtype)


@each_dtype
def test_ids_beside_floats(dtype: str, tmp_path: Any) -> None:
    more, words = xpdl.Input((2,), "more"), xpdl.Input((3,), "words")
    with use("numpy", dtype=dtype):
        net = xpdl.Graph([more, words], L.Concatenate()(more, L.Flatten()(L.Embedding(5, 4)(words))), seed=0)
        net.build()
        xpdl.onnx.export(net, tmp_path / "x.onnx")
    xs = {"more": np.ones((2, 2), dtype), "words": np.asarray([[0, 4, 1], [2, 2, 3]])}
    (got,) = runner(tmp_path / "x.onnx")(xs)
    assert_same(got, net.predict(xs), dtype)


# onnxruntime has no Erf for float64, and onnx's reference rounds it to float32
@pytest.mark.applies(lambda row, dtype: not (row.cls is L.Gelu and "tanh" not in row.id and dtype == "float64"))
@pytest.mark.applies(lambda row, dtype: (row.id, dtype) != _BEYOND_REFERENCE)
@each_dtype
@pytest.mark.parametrize("row", [row for row in ROWS if row not in SEVERAL], ids=lambda row: row.id)
def test_every_layer(row: Row, dtype: str, tmp_path: Any) -> None:
    x = row.inputs[0] if row.cls is L.Embedding else row.inputs[0].astype(dtype)
    with use("numpy", dtype=dtype):
        model, activation = model_of(row, {k: a.astype(dtype) for k, a in {**row.params, **row.constants}.items()})
        model.build(x.shape[1:])
        xpdl.onnx.export(model, tmp_path / "x.onnx", x.shape[1:], activation=activation)
    run = runner(tmp_path / "x.onnx")
    model.eval()
    for batch in (x, x[:1], np.concatenate([x] * 7)[:7]):
        y = model.forward(batch)
        assert_same(run(batch), y if activation is None else model.last_layer.activation(y), dtype)


def after_training(model: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """The model with statistics and weights that are not those it began with."""
    rng = np.random.default_rng(0)
    with use("numpy", dtype=dtype):
        model.build(shape)
    model.gradient(rng.standard_normal((4, *shape)).astype(dtype), np.arange(4))
    for _, owner, key in model.named_params():
        owner[key] = owner[key] + 0.01 * rng.standard_normal(owner[key].shape).astype(dtype)
    return model


NETS = [(name, "float32", make, shape) for name, (make, shape) in nets.NETS.items()]
NETS += [("a small ResNet", "float64", functools.partial(nets.resnet, (2, 4)), (3, 8, 8))]


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize(("name", "dtype", "make", "shape"), NETS, ids=[net[0] for net in NETS])
def test_whole_nets(name: str, dtype: str, make: Any, shape: Any, activation: str | None, tmp_path: Any) -> None:
    net = after_training(make(), shape, dtype)
    xpdl.onnx.export(net, tmp_path / "x.onnx", activation=activation)
    run = runner(tmp_path / "x.onnx")
    for rows in (1, 7):
        x = np.random.default_rng(rows).standard_normal((rows, *shape)).astype(dtype)
        scores = net.predict(x)
        assert_same(run(x), scores if activation is None else xpdl.softmax(scores), dtype)


def loaded(path: Any) -> Any:
    return importlib.import_module("onnx").load(path)


def net_of_a_book(**options: Any) -> Any:
    return models.MultiLayerNetExtend(4, [3], 3, use_batchnorm=True, use_dropout=True, seed=0, **options)


def test_parameters_and_statistics_keep_their_names_and_values(tmp_path: Any) -> None:
    net = net_of_a_book()
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    found = {one.name: to_array(one) for one in loaded(tmp_path / "x.onnx").graph.initializer}
    named = {**net.params, **net.buffers}
    assert named and found.keys() - named.keys() == {"Dropout1.constant"}
    for name, array in named.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_file_says_what_it_is(tmp_path: Any) -> None:
    net = net_of_a_book()
    net.class_names, net.preparation = ["é", "b", "c"], {"size": 4}
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    proto = loaded(tmp_path / "x.onnx")
    assert {one.key: json.loads(one.value) for one in proto.metadata_props} == {
        "class_names": ["é", "b", "c"],
        "preparation": {"size": 4},
        "loss": "SoftmaxWithLoss",
    }
    assert [one.version for one in proto.opset_import] == [xpdl.onnx.OPSET] == [17]
    assert (proto.producer_name, proto.producer_version) == ("xpdl", xpdl.__version__)
    for value, name, size in ((proto.graph.input[0], "x", 4), (proto.graph.output[0], "y", 3)):
        batch, row = value.type.tensor_type.shape.dim
        assert (value.name, batch.dim_param, row.dim_value) == (name, "N", size)


def test_names_that_are_taken_get_a_number(tmp_path: Any) -> None:
    class Shift(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.params["x"] = np.ones(3, np.float32)

        def forward(self, x: Any) -> Any:
            return x + self.params["x"]

        def to_onnx(self, graph: Any, x: Any) -> Any:
            return graph.node("Add", graph.node("Add", x, graph.parameter(self, "x")), graph.constant(0))

    with pytest.raises(ValueError, match=r"the graph of Shift is not valid .*; mend to_onnx"):
        xpdl.onnx.export(Shift(), tmp_path / "x.onnx", (3,))  # the constant is an integer
    Shift.to_onnx = lambda self, graph, x: graph.node("Add", x, graph.parameter(self, "x"))
    xpdl.onnx.export(Shift(), tmp_path / "x.onnx", (3,))
    assert loaded(tmp_path / "x.onnx").graph.input[0].name == "x_2"


class Swish(L.Layer):
    """``x sigmoid(beta x)`` with a layer inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.params["beta"] = np.asarray([1.5], np.float32)
        self.inside = L.Residual(L.Affine(units=4), L.Tanh())

    def forward(self, x: Any) -> Any:
        h = self.inside.forward(x)
        return h * xpdl.sigmoid(self.params["beta"] * h) / 2

    def to_onnx(self, graph: Any, x: Any) -> Any:
        h = graph.add(self.inside, x)
        gate = graph.node("Sigmoid", graph.node("Mul", h, graph.parameter(self, "beta")))
        return graph.node("Mul", graph.node("Mul", h, gate), graph.constant(0.5))


def test_own_layers_with_layers_inside(tmp_path: Any) -> None:
    net = xpdl.Sequential(L.Affine(units=4), Swish(), L.Affine(units=2), seed=1)
    net.build((3,))
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    x = np.random.default_rng(0).standard_normal((7, 3)).astype("float32")
    assert_same(runner(tmp_path / "x.onnx")(x), net.predict(x), "float32")
    names = {one.name for one in loaded(tmp_path / "x.onnx").graph.initializer}
    assert names - {"Swish1.constant"} == set(net.params)


class Quiet(L.Affine):
    """An affine layer under another name."""


class Louder(L.Affine):
    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


def test_derived_layers_are_exported_where_their_forward_is_inherited(tmp_path: Any) -> None:
    net = xpdl.Sequential(Quiet(units=2), seed=0)
    net.build((3,))
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    x = np.ones((1, 3), np.float32)
    assert_same(runner(tmp_path / "x.onnx")(x), net.predict(x), "float32")


def built(*layers: Any, dtype: str = "float32", **options: Any) -> Any:
    with use("numpy", dtype=dtype):
        net = xpdl.Sequential(*layers, **options)
        net.build((3,))
    return net


class Returns(L.Layer):
    def forward(self, x: Any) -> Any:
        return x

    def to_onnx(self, graph: Any, x: Any) -> Any:
        return x.name


class NoValue(Returns):
    def to_onnx(self, graph: Any, x: Any) -> Any:
        return graph.node("Mul", x, 0.5)


class NoParameter(Returns):
    def to_onnx(self, graph: Any, x: Any) -> Any:
        return graph.parameter(self, "W")


class NoOperator(Returns):
    def to_onnx(self, graph: Any, x: Any) -> Any:
        return graph.node("Sigmodi", x)


class OtherShape(Returns):
    def to_onnx(self, graph: Any, x: Any) -> Any:
        return graph.node("Concat", x, x, axis=1)


def two_dtypes() -> Any:
    return built(L.Affine(np.ones((3, 2))), L.Affine(np.ones((2, 2), np.float32)))


SOFTMAX = {"activation": "softmax"}
WRONG = [
    (lambda: built(Louder(units=2)), {}, TypeError, "Louder1: nothing says how a Louder is exported"),
    (lambda: built(L.Residual(Louder(units=3))), {}, TypeError, r"Residual1.body.Louder1: nothing says .* to_onnx"),
    (lambda: built(Returns()), {}, TypeError, "Returns1: to_onnx must return a value of the graph, .* got str"),
    (lambda: built(NoValue()), {}, TypeError, "NoValue1: inputs of the node Mul must be values .* got float"),
    (lambda: built(NoParameter()), {}, KeyError, "NoParameter1: has no parameter 'W'"),
    (lambda: built(NoOperator()), {}, ValueError, "the graph of Sequential is not valid .*Sigmodi"),
    (lambda: built(OtherShape()), {}, ValueError, "the graph of Sequential is not valid"),
    (lambda: L.Relu, {}, TypeError, "model must be a model or a layer, got type"),
    (lambda: None, {}, TypeError, "model must be a model or a layer, got NoneType"),
    (
        lambda: xpdl.Sequential(L.Affine(units=2)),
        {"input_shape": (3,)},
        xpdl.ShapeError,
        "no parameters yet; call build",
    ),
    (L.Relu, {}, xpdl.ShapeError, "the shape of the input of Relu is not known; give input_shape"),
    (lambda: built(L.Affine(units=2)), {"input_shape": (4,)}, xpdl.ShapeError, "Affine1: expected a batch"),
    (lambda: built(L.Affine(units=2)), {"input_shape": (0,)}, xpdl.ShapeError, "must hold positive ints"),
    (lambda: built(L.Affine(units=2)), {"input_shape": "ab"}, xpdl.ShapeError, "must hold positive ints"),
    (
        lambda: built(L.Affine(units=2), dtype="float16"),
        {},
        xpdl.DTypeError,
        r"got float16 \(Affine1.W\); make a model",
    ),
    (two_dtypes, {}, xpdl.DTypeError, r"got float64 \(Affine1.W\), float32 \(Affine2.W\)"),
    (lambda: built(L.Relu()), {"activation": "relu"}, ValueError, "must be 'softmax', 'sigmoid' or None, got 'relu'"),
    (lambda: built(L.Relu()), {"activation": True}, ValueError, "must be 'softmax', 'sigmoid' or None, got True"),
    (lambda: built(L.Relu(), loss=L.SigmoidWithLoss), SOFTMAX, ValueError, "by SigmoidWithLoss with sigmoid, got"),
    (lambda: built(L.Relu(), loss=L.IdentityWithLoss), SOFTMAX, ValueError, "with no activation, got 'softmax'"),
]


@pytest.mark.parametrize(("make", "options", "kind", "message"), WRONG)
def test_wrong_arguments_are_one_error_and_write_nothing(
    make: Any, options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Any
) -> None:
    with pytest.raises(kind, match=message) as caught:
        xpdl.onnx.export(make(), tmp_path / "x.onnx", **options)
    assert caught.value.__cause__ is None and os.listdir(tmp_path) == []


def test_wrong_paths(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; make it first"):
        xpdl.onnx.export(built(L.Relu()), tmp_path / "missing" / "x.onnx")
    with pytest.raises(TypeError):
        xpdl.onnx.export(built(L.Relu()), 3)
    with pytest.raises(OSError):
        xpdl.onnx.export(built(L.Relu()), tmp_path)


def test_a_model_that_is_too_large(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpdl.onnx.model_file._MOST_BYTES", 23)
    net = built(L.Affine(units=2, use_bias=False))
    with pytest.raises(ValueError, match="holds at most 2 GiB, Sequential has 24 bytes"):
        xpdl.onnx.export(net, tmp_path / "x.onnx")
    assert os.listdir(tmp_path) == []


def test_writing_is_atomic(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        xpdl.onnx.export(built(L.Relu()), path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.onnx"]
