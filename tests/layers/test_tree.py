"""Hand-written layers that hold layers, by every kind of attribute, and what must reach the layers inside."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl.backends.namespaces import array_namespace, device
from xpdl.errors import ShapeError
from xpdl.layers import Affine, BatchNormalization, Chain, Dropout, Layer, Relu, Residual


class Row(Layer):
    """Layers in a row, in an attribute that the subclass sets, and a scale of its own."""

    def create_parameters(self, input_shape: Any, make: Any) -> None:
        self.params["scale"] = make("scale", (1,), "zeros") + 1.5

    def inside(self) -> list[Any]:
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        self.prepare(x)
        for layer in self.inside():
            x = layer.forward(x)
        self.y = x
        return x * self.params["scale"]

    def backward(self, dout: Any) -> Any:
        y = self.require_saved(self.y)
        self.grads["scale"] = array_namespace(y).reshape(array_namespace(y).sum(dout * y), (1,))
        dout = dout * self.params["scale"]
        for layer in reversed(self.inside()):
            dout = layer.backward(dout)
        return dout


def row() -> list[Any]:
    return [Affine(units=4), BatchNormalization(), Relu(), Dropout(0.25), Affine(units=3)]


@xpdl.register_layer
class Attributes(Row):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.normal, self.relu, self.drop, self.last = row()

    def inside(self) -> list[Any]:
        return [self.first, self.normal, self.relu, self.drop, self.last]


@xpdl.register_layer
class InList(Row):
    def __init__(self) -> None:
        super().__init__()
        self.layers = row()
        self.first = self.layers[0]  # another name for the same layer

    def inside(self) -> list[Any]:
        return self.layers


@xpdl.register_layer
class InTuple(Row):
    def __init__(self) -> None:
        super().__init__()
        self.layers = tuple(row())

    def inside(self) -> list[Any]:
        return list(self.layers)


@xpdl.register_layer
class InDict(Row):
    """In the book's style."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = OrderedDict(zip(("Affine1", "BatchNorm1", "Relu1", "Dropout1", "Affine2"), row(), strict=True))

    def inside(self) -> list[Any]:
        return list(self.layers.values())


@xpdl.register_layer
class Nested(Row):
    def __init__(self) -> None:
        super().__init__()
        self.block = Chain(*row()[:2], Residual(Affine(units=4)))
        self.inner = Attributes()

    def inside(self) -> list[Any]:
        return [self.block, self.inner]


FIRST = {
    Attributes: "first",
    InList: "layers.0",
    InTuple: "layers.0",
    InDict: "layers.Affine1",
    Nested: "block.Affine1",
}
each_kind = pytest.mark.parametrize("kind", FIRST)
X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
T = np.arange(6) % 3


def model(kind: Any, **kwargs: Any) -> Any:
    net = xpdl.Sequential(kind(), loss=xpdl.SoftmaxWithLoss, **{"seed": 3, **kwargs})
    net.build((5,))
    return net


@each_kind
def test_parameters_and_gradients_have_the_path_of_the_attribute(kind: Any) -> None:
    net = model(kind)
    first = f"{kind.__name__}1.{FIRST[kind]}.W"
    assert net.params[first].shape == (5, 4) and f"{kind.__name__}1.scale" in net.params
    assert list(net.gradient(X, T)) == list(net.params)
    block = next(iter(net.layers.values()))
    assert [f"{kind.__name__}1.{name}" for name in block.params] == list(net.params)
    assert list(block.grads) == list(block.params) and len(block.state) >= 2
    assert next(block.leaves()).name == first.removesuffix(".W")


@each_kind
def test_gradients_are_those_of_differences(kind: Any) -> None:
    report = xpdl.check_gradients(kind(), X.astype("float64"))
    assert len(report.errors) >= 8 and report.passed


@each_kind
def test_an_optimizer_changes_every_parameter(kind: Any) -> None:
    net = model(kind)
    before = {name: value.copy() for name, value in net.params.items()}
    net.params[next(iter(net.params))][...] = before[next(iter(before))]  # writing goes to the layers
    start = float(net.loss(X, T))
    optimizer = xpdl.Adam(lr=0.05)
    for _ in range(30):
        optimizer.update(net.params, net.gradient(X, T))
    assert all(np.any(net.params[name] != value) for name, value in nonempty(before.items()))
    assert float(net.loss(X, T)) < start


@each_kind
def test_a_block_alone_trains_by_its_own_params(kind: Any) -> None:
    block = kind()
    block.build((5,))
    before = {name: value.copy() for name, value in block.params.items()}
    block.forward(X)
    block.backward(np.ones((6, 3), "float32") * X[:, :3])
    xpdl.SGD(lr=0.1).update(block.params, block.grads)
    # a bias before batch normalization has no gradient
    assert sum(np.any(block.params[name] != value) for name, value in before.items()) >= 5


@each_kind
def test_one_seed_gives_the_same_weights_and_masks(kind: Any) -> None:
    a, b, other = model(kind), model(kind), model(kind, seed=4)
    for name in nonempty(a.params):
        np.testing.assert_array_equal(a.params[name], b.params[name])
    first = next(name for name in a.params if name.endswith(".W"))
    assert np.any(a.params[first] != other.params[first])
    np.testing.assert_array_equal(a.predict(X, True), b.predict(X, True))


@each_kind
def test_the_mode_of_a_pass_reaches_dropout_and_statistics(kind: Any) -> None:
    net = model(kind)
    for _ in range(2):
        net.gradient(X, T)
    before = {name: value.copy() for name, value in net.buffers.items()}
    np.testing.assert_array_equal(net.predict(X), net.predict(X))
    assert np.any(net.predict(X, True) != net.predict(X, True))
    for name, value in nonempty(before.items()):
        assert np.any(net.buffers[name] != value)
    assert all(layer.training for layer in nonempty(list(net.tree())))
    assert not any(layer.training for layer in nonempty(list(net.eval().tree())))


@each_kind
@pytest.mark.backends("strict:device1", "torch")
@pytest.mark.skip_backend("meta", reason="has no values")
def test_a_model_moves_with_all_that_is_inside(backend: Backend, kind: Any) -> None:
    net = model(kind)
    wanted = net.predict(X)
    with backend.use("float32"):
        net.to(xpdl.get_backend())
    arrays = [*net.params.values(), *net.buffers.values()]
    assert all(array_namespace(a) is backend.xp and device(a) == backend.device for a in nonempty(arrays))
    np.testing.assert_allclose(
        backend.to_numpy(net.predict(backend.asarray(X, "float32"))), wanted, rtol=1e-5, atol=1e-6
    )


@each_kind
@pytest.mark.backends("strict:device1", "torch")
def test_the_first_forward_builds_beside_the_input(backend: Backend, kind: Any) -> None:
    net = xpdl.Sequential(kind(), loss=xpdl.SoftmaxWithLoss, seed=3)
    assert tuple(net.forward(backend.asarray(X, "float32"), True).shape) == (6, 3)
    assert all(device(a) == backend.device for a in nonempty(list(net.params.values())))


@each_kind
def test_files_and_state_dicts_hold_what_is_inside(kind: Any, tmp_path: Any) -> None:
    net = model(kind)
    net.gradient(X, T)
    net.save(tmp_path / "net")
    again, other = xpdl.load_model(tmp_path / "net"), model(kind, seed=9)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    net.save_params(tmp_path / "params")
    unbuilt = xpdl.Sequential(kind(), loss=xpdl.SoftmaxWithLoss)
    unbuilt.load_params(tmp_path / "params")
    np.testing.assert_array_equal(unbuilt.predict(X), net.predict(X))


@each_kind
def test_shapes_are_known_without_touching_the_layer(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net = model(kind)
    block = next(iter(net.layers.values()))
    net.forward(X, True)
    saved = block.y
    assert block.output_shape((5,)) == (3,) and net.output_shape((5,)) == (3,)
    assert block.y is saved
    net.summary()
    table = capsys.readouterr().out
    assert f"{kind.__name__}1.{FIRST[kind]}" in table and "(N, 4)" in table
    assert f"{sum(a.size for a in net.params.values()):,}" in table


@each_kind
def test_a_trainer_and_half_precision_reach_what_is_inside(kind: Any) -> None:
    net = model(kind)
    before = {name: value.copy() for name, value in net.params.items()}
    xpdl.Trainer(net, X, T, epochs=2, mini_batch_size=6, precision="float16", verbose=False, seed=0).train()
    assert {value.dtype.name for value in net.params.values()} == {"float32"}
    assert sum(np.any(net.params[name] != value) for name, value in nonempty(before.items())) >= 5


@each_kind
def test_a_copy_is_by_itself(kind: Any) -> None:
    net = model(kind)
    other = copy.deepcopy(net)
    name = f"{kind.__name__}1.{FIRST[kind]}.W"
    other.params[name] = other.params[name] + 1
    assert np.all(net.params[name] != other.params[name])


def test_a_replaced_layer_is_built_anew() -> None:
    net = model(Attributes)
    net.layers["Attributes1"].last = Affine(units=7)
    assert not net.built
    assert net.build((5,)) == (7,) and net.params["Attributes1.last.W"].shape == (4, 7)


class Held(Layer):
    """Holds what it is given."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)

    def forward(self, x: Any) -> Any:
        return self.inner.forward(x) if hasattr(self, "inner") else x  # type: ignore[attr-defined]


def cycle() -> Any:
    outer = Held()
    outer.inner = Held(parent=outer)  # type: ignore[attr-defined]
    return outer


def shared() -> Any:
    inner = Affine(units=2)
    return Held(inner=inner, other=Held(again=inner))


class Net(xpdl.Sequential):
    def __init__(self) -> None:
        super().__init__(Affine(units=2))
        self.head = Affine(units=3)


class BookAffine(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.W, self.dW = np.ones((2, 2)), None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Held(pairs=[("a", Affine(units=2))]), TypeError, "attribute pairs holds layers among other things"),
        (lambda: Held(mixed=[None, Affine(units=2)]), TypeError, "attribute mixed holds layers among other things"),
        (lambda: Held(mixed=[Affine(units=2), None]), TypeError, "attribute mixed holds layers among other things"),
        (lambda: Held(several={Affine(units=2)}), TypeError, "attribute several holds layers among other things"),
        (lambda: Held(lists=[[Affine(units=2)]]), TypeError, "attribute lists holds layers among other things"),
        (Net, TypeError, "attribute head holds a layer that is none of its layers"),
        (BookAffine, TypeError, r"array W and its gradient dW are attributes.*self.params\['W'\]"),
        (shared, ValueError, "this layer is also Held.inner; make one for each place"),
        (cycle, ValueError, "a layer is inside of itself"),
    ],
)
def test_layers_that_nothing_would_train_are_an_error(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make().build((4,))
    with pytest.raises(error, match=message):
        xpdl.Sequential(make(), loss=xpdl.SoftmaxWithLoss)


def test_a_layer_that_forward_does_not_call_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"Held: forward, in evaluation, does not call the layer unused"):
        Held(inner=Affine(units=2), unused=Affine(units=2)).build((4,))


def test_a_forward_that_refuses_rows_is_an_error_with_the_cure() -> None:
    with pytest.raises(
        ShapeError, match=r"Held: its layers are built by forward.*raised ShapeError.*define output_shape"
    ):
        Held(inner=xpdl.Convolution(filters=1, size=3)).build((4,))


class Explicit(Layer):
    """Builds by itself what `forward` does not reach with plain rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(units=2)

    def create_parameters(self, input_shape: Any, make: Any) -> None:
        self.inner.build(input_shape)

    def output_shape(self, input_shape: Any) -> Any:
        return self.inner.output_shape(input_shape)

    def forward(self, x: Any) -> Any:
        raise AssertionError("not for shapes")


def test_a_layer_can_build_what_is_inside_by_itself() -> None:
    net = xpdl.Sequential(Explicit())
    assert net.build((4,)) == (2,) and list(net.params) == ["Explicit1.inner.W", "Explicit1.inner.b"]


def test_a_layer_that_looks_at_its_mode_follows_the_pass() -> None:
    class Doubles(Layer):
        def forward(self, x: Any) -> Any:
            return 2 * x if self.training else x

    net = xpdl.Sequential(Doubles())
    np.testing.assert_array_equal(net.predict(X), X)
    np.testing.assert_array_equal(net.predict(X, True), 2 * X)
