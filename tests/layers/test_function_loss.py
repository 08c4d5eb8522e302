"""A function as the loss of a model."""

import functools

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.training.runs import T, X, weights
from xpdl.backends.namespaces import array_namespace
from xpdl.layers import Affine, IdentityWithLoss, Relu, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer


def squares(y, t):
    xp = array_namespace(y)
    rows = y.shape[0]
    return 0.5 * xp.sum((y - t) ** 2) / rows, (y - t) / rows


def cross_entropy(y, t):
    layer = SoftmaxWithLoss()
    return layer.forward(y, t), layer.backward()


def huber(y, t):
    error = y - t
    small = np.abs(error) < 0.5
    loss = np.where(small, 0.5 * error**2, 0.5 * (np.abs(error) - 0.25))
    return float(loss.sum() / len(y)), (np.clip(error, -0.5, 0.5) / len(y)).astype(y.dtype)


TARGETS = np.stack([np.sin(X[:, 0]), X[:, 1], X[:, 0]], axis=1).astype("float32")
PAIRS = {"squares": (squares, IdentityWithLoss, TARGETS), "cross entropy": (cross_entropy, SoftmaxWithLoss, T)}


def model(loss):
    return Sequential(Affine(units=8), Relu(), Affine(units=3), loss=loss, seed=0)


def trained(loss, t, **options):
    options = {"epochs": 3, "mini_batch_size": 20, "optimizer": "adam", "seed": 0, "verbose": False, **options}
    run = Trainer(model(loss), X, t, X[:30], t[:30], **options)
    run.train()
    return run


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 2}, {"validation_split": 0.2}, {"precision": "float16"}, {"drop_last": True}],
    ids=lambda options: next(iter(options), "plain"),
)
@pytest.mark.parametrize("pair", PAIRS)
def test_trains_as_the_layer_does(pair, options):
    function, layer, t = PAIRS[pair]
    one, other = trained(function, t, **options), trained(layer, t, **options)
    for name, value in nonempty(weights(other.network).items()):
        np.testing.assert_allclose(weights(one.network)[name], value, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(one.train_loss_list, other.train_loss_list, rtol=2e-3)
    np.testing.assert_allclose(one.history.test_loss_list, other.history.test_loss_list, rtol=2e-3)


@pytest.mark.parametrize("function", [squares, huber])
def test_gradient_is_that_of_the_loss(function):
    with xpdl.use("numpy", dtype="float64"):
        network = model(function)
        network.build((2,))
        x, t = X[:7].astype("float64"), TARGETS[:7].astype("float64")
        grads, numerical = network.gradient(x, t), network.numerical_gradient(x, t)
        for name, grad in nonempty(grads.items()):
            np.testing.assert_allclose(grad, numerical[name], rtol=1e-5, atol=1e-8)


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="a training loop is not traced")
def test_works_where_the_model_is(backend):
    with backend.use():
        run = trained(squares, TARGETS)
    np.testing.assert_allclose(run.train_loss_list, trained(squares, TARGETS).train_loss_list, rtol=1e-3)


def test_goes_on_from_a_checkpoint(tmp_path):
    whole = trained(squares, TARGETS)
    trained(squares, TARGETS, epochs=1, checkpoint=tmp_path / "run")
    resumed = trained(squares, TARGETS, checkpoint=tmp_path / "run")
    assert resumed.train_loss_list == whole.train_loss_list
    with pytest.raises(ValueError, match=r"loss FunctionLoss\(squares\) there, FunctionLoss\(huber\) here"):
        trained(huber, TARGETS, checkpoint=tmp_path / "run")


WRONG = {
    "no pair": (lambda y, t: y, TypeError, r"must return \(loss, dy\), got"),
    "a list of losses": (
        lambda y, t: (y, y),
        TypeError,
        r"one number, the mean over the rows, got an array of shape \(7, 3\)",
    ),
    "no number": (lambda y, t: (None, y), TypeError, "one number.*got NoneType"),
    "another shape": (
        lambda y, t: (0.5, y[:, :1]),
        xpdl.ShapeError,
        r"dy, the gradient by y, must have shape \(7, 3\)",
    ),
    "another dtype": (lambda y, t: (0.5, y.astype("float64")), xpdl.DTypeError, "dtype of y, float32, got float64"),
    "a list": (lambda y, t: (0.5, y.tolist()), TypeError, "dy must be an array of the shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_returns_is_checked(case):
    function, error, says = WRONG[case]
    network = model(function)
    network.build((2,))
    with pytest.raises(error, match=f"loss <lambda>.*{says}"):
        network.gradient(X[:7], TARGETS[:7])


@pytest.mark.needs("torch")
def test_an_array_of_another_library_is_refused():
    import torch

    network = model(lambda y, t: (0.5, torch.zeros(7, 3)))
    network.build((2,))
    with pytest.raises(xpdl.MixedArraysError, match="loss <lambda>"):
        network.gradient(X[:7], TARGETS[:7])


def test_what_it_cannot_do_says_so(tmp_path):
    network = model(squares)
    network.build((2,))
    with pytest.raises(TypeError, match="the loss is the function squares, which files do not know; save_params keeps"):
        network.save(tmp_path / "net")
    with pytest.raises(TypeError, match=r"loss squares: accuracy is for classification.*squares.classifies = True"):
        network.accuracy(X, TARGETS)
    weights = np.ones(len(X), "float32")
    for weighted in (
        lambda: trained(squares, TARGETS, sample_weight=weights),
        lambda: network.gradient(X, TARGETS, weights),
        lambda: network.loss(X, TARGETS, sample_weight=weights),
    ):
        with pytest.raises(TypeError, match=r"loss squares: takes no weights of rows.*parameter sample_weight"):
            weighted()
    with pytest.raises(ValueError, match=r"has no metric|for a network that predicts classes"):
        trained(squares, TARGETS, metrics=["f1"])
    network.save_params(tmp_path / "params")
    again = model(squares)
    again.load_params(tmp_path / "params")
    np.testing.assert_array_equal(again.predict(X), network.predict(X))


def test_metrics_of_regression_and_functions_work():
    run = trained(squares, TARGETS, metrics=["r2"])
    assert len(run.history.metrics["test_r2"]) == 3


def weighted_entropy(y, t, sample_weight=None):
    layer = SoftmaxWithLoss()
    return layer.forward(y, t, sample_weight), layer.backward()


weighted_entropy.classifies = True


CLASSES = (T + np.arange(len(T)) % 2) % 3
NAMES = np.array(["ant", "bee", "cat"])[CLASSES]


@pytest.mark.parametrize("t", [CLASSES, np.eye(3)[CLASSES], NAMES], ids=["labels", "one-hot", "names"])
@pytest.mark.parametrize("weighs", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_classes_and_weights_of_rows_are_those_of_the_layer(t, weighs):
    options = {"metrics": ["f1", "top_2_accuracy"], "validation_split": 0.25, "accumulate_grad_batches": 2}
    if weighs:
        options["sample_weight"] = np.random.default_rng(5).random(len(X))
    one, other = trained(weighted_entropy, t, **options), trained(SoftmaxWithLoss, t, **options)
    lists, wanted = one.history.lists(), other.history.lists()
    assert lists.keys() == wanted.keys() and {"val_acc_list", "test_acc_list", "val_f1_list"} <= lists.keys()
    for name in lists.keys() - {"seconds"}:
        np.testing.assert_array_equal(lists[name], wanted[name], err_msg=name)
    assert one.network.class_names == other.network.class_names
    assert one.network.accuracy(X, t) == other.network.accuracy(X, t)


def test_targets_of_classes_are_checked():
    with pytest.raises(xpdl.LabelError, match=r"t_train: label \d of row 0 is not one of the 3 classes"):
        trained(weighted_entropy, T + 3)


def test_classifies_is_a_flag():
    function = functools.partial(squares)
    function.classifies = "yes"
    with pytest.raises(TypeError, match=r"loss: partial.classifies must be True or False, got 'yes'"):
        model(function)


@pytest.mark.parametrize("wrong", [3, "squares", Relu, [squares]])
def test_what_is_no_loss_is_refused(wrong):
    with pytest.raises(TypeError, match=r"loss must be a loss layer such as SoftmaxWithLoss, or a function \(y, t\)"):
        model(wrong)
