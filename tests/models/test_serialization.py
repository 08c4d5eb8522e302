"""A model's files: all of it comes back, and what does not fit changes nothing."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from xpdl import (
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    DeepConvNet,
    MultiLayerNet,
    MultiLayerNetExtend,
    Relu,
    Sequential,
    SimpleConvNet,
    SoftmaxWithLoss,
    TwoLayerNet,
    initializers,
)
from xpdl.models import load_model

T = np.asarray([0, 1, 2, 1])


def chain(seed=0):
    return Sequential(
        Convolution(filters=2, size=3), BatchNormalization(), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=seed
    )


MODELS = {
    "Sequential": (chain, (1, 6, 6)),
    "TwoLayerNet": (lambda seed: TwoLayerNet(20, 5, 3, seed=seed), (20,)),
    "MultiLayerNet": (lambda seed: MultiLayerNet(20, [5, 6], 3, seed=seed), (20,)),
    "MultiLayerNetExtend": (
        lambda seed: MultiLayerNetExtend(20, [5, 6], 3, use_dropout=True, use_batchnorm=True, seed=seed),
        (20,),
    ),
    "SimpleConvNet": (lambda seed: SimpleConvNet(seed=seed), (1, 28, 28)),
    "DeepConvNet": (lambda seed: DeepConvNet(seed=seed), (1, 28, 28)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def arrays(model):
    return {name: np.array(value) for view in (model.params, model.buffers) for name, value in view.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value)


def trained(name):
    make, shape = MODELS[name]
    model = make(0)
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    Adam(lr=0.01).update(model.params, model.gradient(x, T))
    return model, x


@pytest.mark.parametrize("name", MODELS)
class TestSavedAndLoaded:
    def test_into_another_of_its_kind(self, name, path):
        model, x = trained(name)
        model.save_params(path)
        other = MODELS[name][0](1)
        other.load_params(path)
        assert_same(arrays(model), arrays(other))
        np.testing.assert_array_equal(other.predict(x), model.predict(x))

    def test_made_again_from_the_file(self, name, path):
        model, x = trained(name)
        model.save_params(path)
        if name == "Sequential":
            with pytest.raises(ValueError, match=r"names Sequential, .* make the model and call its load_params"):
                load_model(path)
        else:
            np.testing.assert_array_equal(load_model(path).predict(x), model.predict(x))

    def test_of_another_kind_changes_nothing_and_is_explained(self, name, path):
        TwoLayerNet(7, 4, 3).save_params(path)
        model, _ = trained(name)
        before = arrays(model)
        with pytest.raises(ValueError, match=rf"does not fit this {name}: "):
            model.load_params(path)
        assert_same(before, arrays(model))

    def test_written_by_others_has_parameters_only(self, name, path):
        model, _ = trained(name)
        params = {key: np.array(value) for key, value in model.params.items()}
        save_file({key: value.astype(np.float64) for key, value in params.items()}, path)
        other, _ = trained(name)
        statistics = {key: np.array(value) for key, value in other.buffers.items()}
        other.load_params(path)
        assert_same({**params, **statistics}, arrays(other))
        assert {value.dtype for value in arrays(other).values()} == {np.dtype(np.float32)}

    def test_pickle_as_of_the_books_code(self, name, path):
        model, _ = trained(name)
        params = {key: np.array(value) for key, value in model.params.items()}
        path.write_bytes(pickle.dumps(params))
        other, _ = trained(name)
        for value in other.params.values():
            value *= 2
        other.load_params(path)
        assert_same(params, {key: np.array(value) for key, value in other.params.items()})


def test_all_that_does_not_fit_is_listed(path):
    save_file({"W1": np.zeros((7, 4), np.float32), "b1": np.zeros(5, np.int64), "extra": np.zeros(1)}, path)
    with pytest.raises(ValueError) as failed:
        TwoLayerNet(7, 5, 3).load_params(path)
    for part in (
        "W1 has shape (7, 4), expected (7, 5)",
        "b1 has dtype int64",
        "missing W2 (5, 3)",
        "unexpected extra (1,)",
    ):
        assert part in str(failed.value)


def test_failed_load_leaves_a_model_without_parameters_as_it_was(path):
    TwoLayerNet(7, 4, 3).save_params(path)
    model = Sequential(Affine(units=4), loss=SoftmaxWithLoss)
    with pytest.raises(ValueError, match="missing Affine1"):
        model.load_params(path)
    assert not model.built and not model.params and model.input_shape is None
    assert model.build((9,)) == (4,)


def test_without_parameters_and_without_a_shape_in_the_file(path):
    save_file({"Affine1.W": np.zeros((2, 3), np.float32)}, path)
    with pytest.raises(ValueError, match=r"call build\(input_shape\) first"):
        Sequential(Affine(units=3)).load_params(path)


@pytest.mark.parametrize("config", [None, "", "[1]", json.dumps({"nonsense": 1})])
def test_model_of_other_files_is_not_made(path, config):
    metadata = {"model": "TwoLayerNet", **({} if config is None else {"config": config})}
    save_file({"W1": np.zeros((7, 4), np.float32)}, path, metadata)
    with pytest.raises(ValueError, match=r"names TwoLayerNet, .* make the model"):
        load_model(path)


HUGE = 10**7


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("TwoLayerNet", {"input_size": HUGE, "hidden_size": HUGE, "output_size": HUGE}),
        ("MultiLayerNetExtend", {"input_size": 1, "hidden_size_list": [HUGE, HUGE], "output_size": 1}),
        ("SimpleConvNet", {"input_dim": [1, HUGE, HUGE]}),
        ("SimpleConvNet", {"input_dim": "abc"}),
        ("SimpleConvNet", {"conv_param": [1]}),
        ("DeepConvNet", {"conv_param_1": {"filter_num": 10**400}}),
        ("MultiLayerNet", {"input_size": 1, "hidden_size_list": [1], "output_size": 1, "activation": 3}),
        ("MultiLayerNet", {"input_size": 1, "hidden_size_list": 3, "output_size": 1}),
        ("MultiLayerNet", {"input_size": 1, "hidden_size_list": [1], "output_size": 1, "weight_init_std": [1]}),
    ],
)
def test_small_file_does_not_ask_for_a_large_model(path, name, config):
    save_file({"W1": np.zeros((7, 4), np.float32)}, path, {"model": name, "config": json.dumps(config)})
    with pytest.raises(ValueError, match="of which load_model cannot make a model"):
        load_model(path)


def test_shape_in_a_file_does_not_ask_for_a_large_model(path):
    save_file({"Affine1.W": np.zeros((2, 3), np.float32)}, path, {"input_shape": json.dumps([HUGE, HUGE])})
    model = Sequential(Affine(units=HUGE))
    with pytest.raises(ValueError, match="more parameters than the file holds"):
        model.load_params(path)
    assert not model.built


@pytest.mark.parametrize("key", ["config", "input_shape"])
def test_deeply_nested_metadata_are_refused(path, key):
    save_file({"W1": np.zeros((7, 4), np.float32)}, path, {"model": "TwoLayerNet", key: "[" * 10**5})
    with pytest.raises(ValueError, match="cannot make"):
        load_model(path)
    with pytest.raises(ValueError, match="names no input shape"):
        Sequential(Affine(units=3)).load_params(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TwoLayerNet(np.int64(6), np.int32(5), np.int64(3), np.float32(0.1)),
        lambda: MultiLayerNet(6, np.array([5, 4]), 3, weight_decay_lambda=np.float32(0.1)),
        lambda: SimpleConvNet((np.int64(1), 8, 8), {"filter_num": np.int64(3), "filter_size": 3}, 5, 4),
    ],
)
def test_sizes_that_are_numpy_numbers_are_written(path, make):
    model = make()
    model.save_params(path)
    assert_same(arrays(load_model(path)), arrays(model))


def test_a_shape_of_numpy_numbers_is_written(path):
    model, other = (Sequential(Affine(units=2), loss=SoftmaxWithLoss, seed=seed) for seed in (0, 1))
    model.build(np.array([5]))
    model.save_params(path)
    other.load_params(path)
    assert model.input_shape == other.input_shape == (5,)
    assert_same(arrays(other), arrays(model))


def test_an_argument_that_json_cannot_hold_is_named_and_no_file_is_written(path):
    model = TwoLayerNet(6, 5, 3)
    model.config["weight_init_std"] = {0.01}
    with pytest.raises(TypeError, match=r"save_params: \{0\.01\} cannot be written to a file"):
        model.save_params(path)
    assert not path.exists()


def test_a_net_with_an_initializer_of_its_own_is_loaded_into_one_like_it(path):
    model, other = (TwoLayerNet(6, 5, 3, initializers.orthogonal, seed=seed) for seed in (0, 1))
    model.save_params(path)
    other.load_params(path)
    assert_same(arrays(other), arrays(model))
    with pytest.raises(ValueError, match="make the model and call its load_params"):
        load_model(path)
