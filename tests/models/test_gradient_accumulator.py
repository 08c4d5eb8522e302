"""Several mini-batches as one update, and rows kept for validation."""

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.training.runs import T, X, trainer
from xpdl.errors import ShapeError
from xpdl.layers import Affine, IdentityWithLoss, Relu, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.optimizers import SGD
from xpdl.training import EarlyStopping, MixedPrecision, Trainer


def plain():
    network = Sequential(Affine(units=8), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    network.build((2,))
    for name, value in network.params.items():
        network.params[name] = value.astype("float64")
    return network


@pytest.mark.parametrize(("size", "count", "whole"), [(10, 2, 20), (10, 6, 60), (7, 3, 21), (25, 2, 50)])
def test_is_the_update_of_the_larger_batch(size, count, whole):
    """60 rows: the last update of an epoch has what is left, in batches of unequal size."""
    parts = trainer(plain(), mini_batch_size=size, accumulate_grad_batches=count)
    together = trainer(plain(), mini_batch_size=whole)
    parts.train(), together.train()
    assert parts.optimizer.iter == together.optimizer.iter
    for name, value in together.network.params.items():
        np.testing.assert_allclose(parts.network.params[name], value, rtol=1e-10, atol=1e-12)


def test_gradients_are_clipped_once_they_are_together():
    options = {"optimizer": "sgd", "optimizer_param": {"lr": 1.0, "clip_norm": 0.01}}
    parts = trainer(plain(), mini_batch_size=10, accumulate_grad_batches=2, **options)
    together = trainer(plain(), mini_batch_size=20, **options)
    parts.train(), together.train()
    for name, value in nonempty(together.network.params.items()):
        np.testing.assert_allclose(parts.network.params[name], value, rtol=1e-10, atol=1e-12)


def test_rows_for_validation_are_not_trained_with():
    run = trainer(plain(), validation_split=0.25)
    assert run.x_train.shape == (45, 2) and run.x_val.shape == (15, 2) and run.iter_per_epoch == 3
    rows = np.concatenate([run.x_train, run.x_val])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, X[:60].astype(rows.dtype).tolist()))
    order = np.concatenate([run.t_train, run.t_val])
    assert not np.array_equal(order, T[:60])  # drawn at random
    history = run.train()
    assert history.val_acc_list[-1] == run.network.accuracy(run.x_val, run.t_val)
    again = trainer(plain(), validation_split=0.25)
    np.testing.assert_array_equal(again.x_val, run.x_val)
    assert trainer(plain()).train().val_acc_list == []


@pytest.mark.parametrize("share", [0.001, 0.999, 1.0, -0.5, "half"])
def test_a_split_leaves_rows_on_both_sides(share):
    with pytest.raises((ShapeError, ValueError), match="Trainer: validation_split"):
        trainer(plain(), validation_split=share)


def test_accumulate_is_a_number_of_batches():
    with pytest.raises(ValueError, match="Trainer: accumulate_grad_batches must be an int of at least 1"):
        trainer(plain(), accumulate_grad_batches=0)


def test_of_one_batch_nothing_is_computed():
    grads, once = {"W": np.ones(2)}, Accumulated(1)
    assert once.add(grads, 3, last=False) is grads and once.add(grads, 1, last=True) is grads


def test_each_row_counts_as_much_as_another():
    """Two rows of gradient 1 and one of gradient 4; then, begun anew, one of 5."""
    both = Accumulated(2)
    assert both.add({"W": np.ones(2)}, 2, last=False) is None
    assert both.add({"W": np.full(2, 4.0)}, 1, last=False)["W"].tolist() == [2.0, 2.0]
    assert both.add({"W": np.full(2, 5.0)}, 1, last=True)["W"].tolist() == [5.0, 5.0]


def test_batches_count_by_their_weight_and_not_by_their_rows():
    both = Accumulated(2)
    assert both.add({"W": np.ones(2)}, np.float64(0.5), last=False) is None
    assert both.add({"W": np.full(2, 4.0)}, np.float64(1.0), last=False)["W"].tolist() == [3.0, 3.0]
    assert both.add({"W": np.ones(2)}, np.float64(0.0), last=True)["W"].tolist() == [0.0, 0.0]


RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(50, 4))
CLASSES = np.where(RNG.random(50) < 0.8, 0, RNG.integers(0, 3, 50))
YES_NO = (RNG.random((50, 3)) < 0.3).astype(float)
VALUES = RNG.normal(size=(50, 3))
LOSSES = {
    "softmax": (SoftmaxWithLoss, CLASSES),
    "softmax of one-hot rows": (SoftmaxWithLoss, np.eye(3)[CLASSES]),
    "label smoothing": (lambda: SoftmaxWithLoss(0.1), CLASSES),
    "class weights": (lambda: SoftmaxWithLoss(0, [1.0, 9.0, 0.5]), CLASSES),
    "class weights of one-hot rows": (lambda: SoftmaxWithLoss(0, [1.0, 9.0, 0.5]), np.eye(3)[CLASSES]),
    "smoothed class weights": (lambda: SoftmaxWithLoss(0.1, [1.0, 9.0, 0.5]), CLASSES),
    "a class that is ignored": (lambda: SoftmaxWithLoss(0, [0.0, 2.0, 1.0]), CLASSES),
    "sigmoid": (SigmoidWithLoss, YES_NO),
    "identity": (IdentityWithLoss, VALUES),
}


def trained(loss, t, size, count, dtype="float64", **options):
    with xpdl.use("numpy", dtype=dtype):
        network = Sequential(Affine(units=5), Relu(), Affine(units=3), loss=loss(), seed=0)
        Trainer(
            network,
            ROWS,
            t,
            ROWS,
            t,
            2,
            size,
            SGD(0.5),
            verbose=False,
            seed=0,
            accumulate_grad_batches=count,
            **options,
        ).train()
    return network.params


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("size", "count"), [(10, 5), (3, 17), (7, 8), (1, 50)])
def test_of_every_loss_is_the_update_of_the_larger_batch(name, size, count):
    """One update an epoch, of batches of unequal size and weight, some of which have none."""
    loss, t = LOSSES[name]
    parts, together = trained(loss, t, size, count), trained(loss, t, 50, 1)
    for name, value in nonempty(together.items()):
        np.testing.assert_allclose(parts[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1, 3, 10, 50])
def test_the_mean_loss_of_an_epoch_is_that_of_all_rows(name, size):
    """Of a network that does not change: each batch counts by the weight of its rows, a last one of two rows too."""
    loss, t = LOSSES[name]
    with xpdl.use("numpy", dtype="float64"):
        network = Sequential(Affine(units=3), loss=loss(), seed=0)
        run = Trainer(
            network, ROWS, t, ROWS, t, 2, size, SGD(0.0), verbose=False, seed=0, callbacks=[EarlyStopping("loss")]
        )
    history = run.train()
    want = float(network.loss(ROWS, t))
    np.testing.assert_allclose(history.epoch_loss_list, [want, want], rtol=1e-12)
    assert run.callbacks.callbacks[0].best == min(history.epoch_loss_list)


@pytest.mark.parametrize("name", ["class weights", "sigmoid"])
def test_in_mixed_precision_too(name):
    loss, t = LOSSES[name]
    parts = trained(loss, t, 7, 8, "float32", precision=MixedPrecision("float16", scale=8.0))
    together = trained(loss, t, 50, 1, "float32")
    for name, value in nonempty(together.items()):
        np.testing.assert_allclose(parts[name], value, rtol=0.02, atol=5e-3)
