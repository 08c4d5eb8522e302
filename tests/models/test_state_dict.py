"""A model's arrays as a dict: all of them come back, and what does not fit changes nothing and is listed."""

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import (
    Affine,
    BatchNormalization,
    Convolution,
    Relu,
    Residual,
    Sequential,
    ShapeError,
    SoftmaxWithLoss,
    TwoLayerNet,
    use,
)


def chain(seed=0, dtype="float32"):
    layers = [Convolution(filters=2, size=3, pad=1), BatchNormalization(), Relu(), Affine(units=3)]
    net = Sequential(*layers, loss=SoftmaxWithLoss, seed=seed)
    with use("numpy", dtype=dtype):
        net.build((1, 5, 5))
    return net


def host(model):
    return {name: np.array(value) for name, value in {**model.params, **model.buffers}.items()}


def assert_same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])
        assert value.dtype == other[name].dtype


class TestStateDict:
    def test_has_parameters_and_running_statistics(self):
        assert list(chain().state_dict()) == [
            "Convolution1.W",
            "Convolution1.b",
            "BatchNormalization1.gamma",
            "BatchNormalization1.beta",
            "Affine1.W",
            "Affine1.b",
            "BatchNormalization1.running_mean",
            "BatchNormalization1.running_var",
        ]

    def test_is_a_copy(self):
        net = chain()
        before = host(net)
        for value in net.state_dict().values():
            value += 1
        assert_same(host(net), before)

    def test_keeps_the_library_of_the_model(self, backend):
        with backend.use():
            net = TwoLayerNet(4, 3, 2)
        for name, value in nonempty(net.state_dict().items()):
            assert type(value) is type(net.params[name]) and value.dtype == net.params[name].dtype

    def test_without_parameters_says_what_to_do(self):
        net = Sequential(Affine(units=2))
        with pytest.raises(ShapeError, match="call build"):
            net.state_dict()
        with pytest.raises(ShapeError, match="call build"):
            net.load_state_dict({})


class TestLoading:
    def test_gives_the_other_the_same_values(self):
        net, other = chain(0), chain(1)
        assert other.load_state_dict(net.state_dict()) == ([], [])
        assert_same(host(net), host(other))

    def test_copies(self):
        state, net = chain(0).state_dict(), chain(1)
        net.load_state_dict(state)
        state["Affine1.W"] += 1
        assert (net.params["Affine1.W"] != state["Affine1.W"]).all()

    @pytest.mark.backends("values")
    def test_takes_arrays_of_any_library(self, backend):
        state = chain().state_dict()
        with backend.use("float32"):
            net = Sequential(Convolution(filters=2, size=3, pad=1), BatchNormalization(), Relu(), Affine(units=3))
            net.build((1, 5, 5))
        net.load_state_dict(state)
        for name, value in net.state_dict().items():
            assert type(value) is type(net.params.get(name, value))
            np.testing.assert_array_equal(backend.to_numpy(value), state[name])
        other = chain(1)
        other.load_state_dict(net.state_dict())
        assert_same(host(other), state)

    def test_layers_see_the_new_values(self):
        net, state = chain(1), chain(0).state_dict()
        net.load_state_dict(state)
        np.testing.assert_array_equal(net.layers["Affine1"].W, state["Affine1.W"])

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_rounds_to_the_dtype_of_the_model(self, dtype):
        state, net = chain(0, dtype).state_dict(), chain(1)
        net.load_state_dict(state)
        assert_same(host(net), {name: value.astype(np.float32) for name, value in state.items()})


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"Affine1.W": None}, "missing Affine1.W (50, 3)"),
            ({"extra": np.zeros((2, 3))}, "unexpected extra (2, 3)"),
            ({"extra": 3}, "unexpected extra"),
            ({7: np.zeros((2, 3))}, "unexpected 7 (2, 3)"),
            ({"Affine1.b": np.zeros(4)}, "Affine1.b has shape (4,), expected (3,)"),
            ({"Affine1.b": np.zeros(3, np.int32)}, "Affine1.b has dtype int32, expected floats"),
            ({"Affine1.b": np.zeros(3, complex)}, "Affine1.b has dtype complex128, expected floats"),
            ({"Affine1.b": [0.0, 0.0, 0.0]}, "Affine1.b is a list, expected an array"),
            ({"Affine1.b": np.asarray([0, 1e39, 0])}, "Affine1.b has values beyond the range of float32"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_is_named_and_changes_nothing(self, change, message):
        state = {name: value + 1 for name, value in chain(0).state_dict().items()}
        state.update(change)
        state = {name: value for name, value in state.items() if value is not None}
        net = chain(1)
        before = host(net)
        with pytest.raises(ValueError) as failed:
            net.load_state_dict(state)
        assert str(failed.value) == f"Sequential.load_state_dict: does not fit this Sequential: {message}"
        assert_same(host(net), before)

    def test_all_is_listed_together(self):
        state = chain().state_dict()
        del state["Affine1.W"]
        state.update({"one": np.zeros(1), "two": np.zeros(2), "Affine1.b": np.zeros(9)})
        with pytest.raises(ValueError) as failed:
            chain().load_state_dict(state)
        for part in ("missing Affine1.W", "unexpected one", "unexpected two", "Affine1.b has shape (9,)"):
            assert part in str(failed.value)

    def test_infinite_and_nan_values_that_were_there_are_loaded(self):
        state = chain(0, "float64").state_dict()
        state["Affine1.b"] = np.asarray([np.nan, np.inf, -np.inf])
        net = chain()
        net.load_state_dict(state)
        np.testing.assert_array_equal(net.params["Affine1.b"], [np.nan, np.inf, -np.inf])

    def test_state_that_is_no_mapping_is_named(self):
        with pytest.raises(TypeError, match="expected a dict of arrays, got list"):
            chain().load_state_dict([1, 2])


class TestNotStrict:
    def test_loads_what_both_have_and_says_what_not(self):
        state, net = chain(0).state_dict(), chain(1)
        kept = np.array(net.params["Affine1.W"])
        del state["Affine1.W"]
        state["extra"] = np.zeros(1)
        found = net.load_state_dict(state, strict=False)
        assert found.missing == ["Affine1.W"] and found.unexpected == ["extra"]
        np.testing.assert_array_equal(net.params["Affine1.W"], kept)
        np.testing.assert_array_equal(net.params["Convolution1.W"], state["Convolution1.W"])

    def test_wrong_shape_is_an_error_all_the_same(self):
        state, net = chain(0).state_dict(), chain(1)
        state["Affine1.b"] = np.zeros(9)
        before = host(net)
        with pytest.raises(ValueError, match="shape"):
            net.load_state_dict(state, strict=False)
        assert_same(host(net), before)


def test_nested_layers_have_their_path():
    net = Sequential(Residual(Affine(units=3), Relu()), seed=0)
    net.build((3,))
    assert list(net.state_dict()) == ["Residual1.body.Affine1.W", "Residual1.body.Affine1.b"]
