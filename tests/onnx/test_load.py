"""Models read from ONNX files: of xpdl, of PyTorch and scikit-learn, and graphs as Keras's exporter writes them."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.onnx.graphs import Builder, loaded_from, outputs
from tests.onnx.test_export import NETS, after_training, assert_same
from xpdl import layers as L
from xpdl import models, use

pytestmark = pytest.mark.needs("onnx")


def test_ids_and_their_normalized_vectors_come_back(tmp_path: Any) -> None:
    layers = [L.Embedding(7, 6), L.LayerNormalization(1e-3), L.Affine(units=3, axis=-1), L.Affine(units=2)]
    net = xpdl.Sequential(*layers, loss=L.SoftmaxWithLoss, seed=0)
    with use("numpy", dtype="float32"):
        net.build((4,))
        xpdl.onnx.export(net, tmp_path / "x.onnx")
        loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    assert loaded.input_shape == (4,)
    assert [type(one) for one in loaded.layers.values()] == [type(one) for one in layers]
    ids = np.random.default_rng(0).integers(0, 7, (5, 4))
    np.testing.assert_array_equal(loaded.predict(ids), net.predict(ids))
    for a, b in zip(
        net.gradient(ids, ids[:, 0] % 2).values(), loaded.gradient(ids, ids[:, 0] % 2).values(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def dropout_net() -> Any:
    layers = [L.Affine(units=7), L.Relu(), L.Dropout(0.3), L.Affine(units=6), L.Dropout(0.25, inverted=True)]
    return xpdl.Sequential(*layers, L.Affine(units=5), loss=L.SoftmaxWithLoss, seed=3)


def blocks() -> Any:
    shortcut = L.Chain(L.Convolution(filters=6, size=1, stride=2), L.BatchNormalization(momentum=0.8, eps=1e-3))
    inner = L.Residual(L.Residual(L.Relu()), L.Sigmoid())
    body = [L.Convolution(filters=6, size=3, stride=2, pad=1, use_bias=False), inner, L.Tanh()]
    layers = [L.Residual(*body, shortcut=shortcut), L.Relu(), L.GlobalAveragePooling(), L.Affine(units=5)]
    return xpdl.Sequential(*layers, loss=L.SoftmaxWithLoss, seed=3)


ONE_STEP = [
    *NETS,
    ("dropout", "float32", dropout_net, (4,)),
    ("blocks", "float32", blocks, (3, 8, 8)),
    ("labels", "float32", lambda: xpdl.Sequential(L.Affine(units=5), loss=L.SigmoidWithLoss, seed=3), (4,)),
]


@pytest.mark.parametrize(("name", "dtype", "make", "shape"), ONE_STEP, ids=[net[0] for net in ONE_STEP])
def test_a_step_of_training_is_bitwise_identical(name: str, dtype: str, make: Any, shape: Any, tmp_path: Any) -> None:
    net = make()
    with use("numpy", dtype=dtype):
        net.build(shape)
        rng = np.random.default_rng(1)
        net.forward(rng.standard_normal((6, *shape)).astype(dtype), True)
        if name in ("dropout", "DeepConvNet"):  # masks are counted from the beginning
            net = make()
            net.build(shape)
        xpdl.onnx.export(net, tmp_path / "x.onnx")
        loaded = xpdl.onnx.load(tmp_path / "x.onnx", seed=net.seed)
    assert loaded.input_shape == shape and type(loaded.last_layer) is type(net.last_layer)
    x = rng.standard_normal((6, *shape)).astype(dtype)
    t = rng.integers(0, 5, 6) if name != "labels" else rng.integers(0, 2, (6, 5))
    before = [array.copy() for array in net.params.values()]
    for model in (net, loaded):
        optimizer = xpdl.Adam(lr=0.01)
        optimizer.update(model.params, model.gradient(x, t))
    assert len(net.params) == len(loaded.params) and len(net.buffers) == len(loaded.buffers)
    for old, a, b in zip(before, net.params.values(), loaded.params.values(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(old, a)
    for a, b in zip(net.buffers.values(), loaded.buffers.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0 if dtype == "float32" else 1e-14)


def test_what_the_file_says_of_the_model_comes_back(tmp_path: Any) -> None:
    net = models.MultiLayerNetExtend(4, [3], 3, use_batchnorm=True, use_dropout=True, seed=0)
    net.class_names, net.preparation = ["é", "b", "c"], {"size": 4}
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    assert (loaded.class_names, loaded.preparation) == (net.class_names, net.preparation)
    loaded.save(tmp_path / "again.safetensors")
    again = xpdl.load_model(tmp_path / "again.safetensors")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    np.testing.assert_array_equal(again.predict(x), net.predict(x))


def test_parameters_go_to_the_backend_in_use(tmp_path: Any) -> None:
    net = after_training(dropout_net(), (4,), "float32")
    xpdl.onnx.export(net, tmp_path / "x.onnx")
    x = np.random.default_rng(0).standard_normal((5, 4))
    with use("numpy", dtype="float64"):
        loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    assert {str(array.dtype) for array in loaded.params.values()} == {"float64"}
    np.testing.assert_allclose(loaded.predict(x), net.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "layers", "last"),
    [
        (None, 1, L.SoftmaxWithLoss),
        (L.SoftmaxWithLoss(), 1, L.SoftmaxWithLoss),
        (L.IdentityWithLoss, 2, L.IdentityWithLoss),
    ],
)
def test_a_softmax_at_the_end_is_part_of_its_loss(loss: Any, layers: int, last: Any, tmp_path: Any) -> None:
    net = xpdl.Sequential(L.Affine(units=3), seed=0)
    net.build((2,))
    xpdl.onnx.export(net, tmp_path / "x.onnx", activation="softmax")
    loaded = xpdl.onnx.load(tmp_path / "x.onnx", loss=loss)
    assert len(loaded.layers) == layers and type(loaded.last_layer) is last
    x = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(outputs(loaded, x), xpdl.softmax(net.predict(x)), rtol=1e-6)


# PyTorch


def torch_net(torch: Any) -> Any:
    """An image net with a residual block, ``view`` and dropout, whose statistics are not those it began with."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.second, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.3)
            self.hidden, self.last = nn.Linear(36, 10), nn.Linear(10, 3)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            x = self.pool(torch.relu(x + self.norm2(self.second(x))))
            x = torch.sigmoid(self.hidden(x.view(x.size(0), -1)))
            return torch.softmax(self.last(self.drop(x)), 1)

    torch.manual_seed(0)
    net = Net().train()
    net(torch.randn(8, 2, 6, 6))
    return net.eval()


EXPORTS = [
    pytest.param("legacy", {"dynamo": False}, id="legacy"),
    pytest.param("legacy", {"dynamo": False, "free": True, "do_constant_folding": False}, id="legacy, free rows"),
    pytest.param("dynamo", {"dynamo": True}, marks=pytest.mark.exhaustive, id="dynamo"),
    pytest.param("dynamo", {"dynamo": True, "free": True}, marks=pytest.mark.exhaustive, id="dynamo, free rows"),
]


@pytest.mark.needs("torch", "onnxscript", "onnxruntime")
@pytest.mark.parametrize(("kind", "options"), EXPORTS)
def test_files_of_pytorch(kind: str, options: dict[str, Any], torch: Any, tmp_path: Any, capfd: Any) -> None:
    net, x = torch_net(torch), np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype("float32")
    options = dict(options)
    if options.pop("free", False):
        dynamic = torch.export.Dim.DYNAMIC if kind == "dynamo" else None
        options |= {"dynamic_shapes": ({0: dynamic},)} if kind == "dynamo" else {"dynamic_axes": {"x": {0: "n"}}}
    if "do_constant_folding" in options:
        options["training"] = torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        torch.onnx.export(net, (torch.from_numpy(x),), str(tmp_path / "x.onnx"), input_names=["x"], **options)
    loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert_same(outputs(loaded, x), expected, "float32")
    assert sum(isinstance(layer, L.Residual) for layer in loaded.layers.values()) == 1
    norms = sum(isinstance(layer, L.BatchNormalization) for layer in loaded.tree())
    assert norms == (2 if "do_constant_folding" in options else 0)  # else PyTorch folds them
    assert loaded.gradient(x, np.arange(4) % 3).keys() == loaded.params.keys()


# scikit-learn

CLASSIFIERS = {
    "three classes": lambda rng: rng.integers(0, 3, 60),
    "two classes": lambda rng: rng.integers(0, 2, 60) + 5,
    "names": lambda rng: np.array(["ant", "bee", "cat"])[rng.integers(0, 3, 60)],
    "labels": lambda rng: rng.integers(0, 2, (60, 3)),
}


@pytest.mark.needs("sklearn", "skl2onnx")
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_of_scikit_learn(kind: str, zipmap: bool, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((60, 4)).astype("float32"), CLASSIFIERS[kind](rng)
    network = importlib.import_module("sklearn.neural_network").MLPClassifier((6, 5), random_state=0, max_iter=3)
    fitted = fit(network, x, t)
    options = {} if zipmap and t.ndim == 1 else {"options": {"zipmap": False}}
    write_sklearn(fitted, x, tmp_path, **options)
    loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    got, expected = outputs(loaded, x), fitted.predict_proba(x)
    # of two classes, as sigmoid has it, the second one's
    expected = expected[:, 1:] if kind == "two classes" else expected
    np.testing.assert_allclose(got, expected, atol=1e-5)
    names = [str(one) for one in fitted.classes_] if zipmap and t.ndim == 1 else None
    assert loaded.class_names == names
    truth = t[:6] if got.shape[1] > 1 else (t[:6, None] == fitted.classes_[1])
    truth = np.unique(t, return_inverse=True)[1][:6] if kind == "names" else truth
    assert loaded.gradient(x[:6], np.asarray(truth, int)).keys() == loaded.params.keys()


LINEAR = {
    "LogisticRegression of three": (["linear_model.LogisticRegression"], lambda x, rng: rng.integers(0, 3, 60)),
    "LogisticRegression of two": (["linear_model.LogisticRegression"], lambda x, rng: rng.integers(0, 2, 60)),
    "LinearRegression": (["linear_model.LinearRegression"], lambda x, rng: x[:, 0] + 1),
    "Ridge of two targets": (["linear_model.Ridge"], lambda x, rng: x[:, :2]),
    "standardized": (["preprocessing.StandardScaler", "neural_network.MLPRegressor"], lambda x, rng: x[:, 0]),
    "components": (
        ["preprocessing.StandardScaler", "decomposition.PCA", "linear_model.LogisticRegression"],
        lambda x, rng: rng.integers(0, 3, 60),
    ),
}


@pytest.mark.exhaustive
@pytest.mark.needs("sklearn", "skl2onnx")
@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_and_pipelines_of_scikit_learn(name: str, tmp_path: Any) -> None:
    kinds, targets = LINEAR[name]
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((60, 4)) * [1, 2, 3, 4] + 1).astype("float32")
    parts = [kind.rpartition(".") for kind in kinds]
    made = [getattr(importlib.import_module(f"sklearn.{module}"), kind)() for module, _, kind in parts]
    fitted = fit(importlib.import_module("sklearn.pipeline").make_pipeline(*made), x, targets(x, rng))
    write_sklearn(fitted, x, tmp_path)
    loaded = xpdl.onnx.load(tmp_path / "x.onnx")
    expected = fitted.predict_proba(x) if hasattr(fitted, "predict_proba") else fitted.predict(x).reshape(60, -1)
    expected = expected[:, 1:] if "of two" in name and "targets" not in name else expected
    np.testing.assert_allclose(outputs(loaded, x), expected, atol=1e-5)
    assert (loaded.class_names is None) is not hasattr(fitted, "classes_")
    assert all(array.dtype == np.float32 for array in loaded.params.values())


def test_classifiers_of_other_scores_are_named(tmp_path: Any) -> None:
    onnx = importlib.import_module("onnx")
    numbers = {"coefficients": [0.5] * 8, "intercepts": [0.0, 0.0], "classlabels_ints": [0, 1]}
    for kind in ("PROBIT", "LOGISTIC"):
        g = Builder()
        options = {"domain": "ai.onnx.ml", "post_transform": kind, **numbers}
        g.nodes.append(onnx.helper.make_node("LinearClassifier", ["x"], ["label", "y"], name="c", **options))
        with pytest.raises(ValueError, match=rf"node 'c' .*: it computes {kind} of 2 scores for 2 classes"):
            loaded_from(g.model("y"), tmp_path)


@pytest.mark.needs("sklearn", "skl2onnx")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regressors_of_scikit_learn(activation: str, dtype: str, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(dtype)
    network = importlib.import_module("sklearn.neural_network").MLPRegressor(
        hidden_layer_sizes=(6,), activation=activation, random_state=0, max_iter=3
    )
    fitted = fit(network, x, x[:, 0])
    write_sklearn(fitted, x, tmp_path)
    with use("numpy", dtype=dtype):
        loaded = xpdl.onnx.load(tmp_path / "x.onnx", loss=L.IdentityWithLoss)
    np.testing.assert_allclose(loaded.predict(x)[:, 0], fitted.predict(x), atol=1e-5 if dtype == "float32" else 1e-12)


def fit(network: Any, x: Any, t: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        return network.fit(x, t)


def write_sklearn(fitted: Any, x: Any, folder: Any, **options: Any) -> None:
    proto = importlib.import_module("skl2onnx").to_onnx(fitted, x[:1], **options)
    (folder / "x.onnx").write_bytes(proto.SerializeToString())
