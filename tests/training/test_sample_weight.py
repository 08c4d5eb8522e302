"""Weights of rows: a row of weight 2 is one that is there twice, one of 0 one that is not there."""

import numpy as np
import pytest

import xpdl
from xpdl import (
    SGD,
    Affine,
    IdentityWithLoss,
    MultiLayerNet,
    Relu,
    Sequential,
    SigmoidWithLoss,
    SoftmaxWithLoss,
    Trainer,
)
from xpdl.data import Batches
from xpdl.errors import ShapeError
from xpdl.layers.losses import LossLayer

RNG = np.random.default_rng(8)
X = RNG.normal(size=(40, 4))
CLASSES = RNG.integers(0, 3, 40)
WEIGHTS = RNG.integers(0, 4, 40).astype(float)
OFTEN = np.repeat(np.arange(40), WEIGHTS.astype(int))
LOSSES = {
    "softmax": (SoftmaxWithLoss, CLASSES),
    "label smoothing": (lambda: SoftmaxWithLoss(0.1), CLASSES),
    "class weights": (lambda: SoftmaxWithLoss(0, [1.0, 4.0, 0.5]), CLASSES),
    "one-hot rows": (SoftmaxWithLoss, np.eye(3)[CLASSES]),
    "sigmoid": (SigmoidWithLoss, (RNG.random((40, 3)) < 0.4).astype(float)),
    "identity": (IdentityWithLoss, RNG.normal(size=(40, 3))),
}


def run(x, t, loss, size, network=None, **options):
    with xpdl.use("numpy", dtype="float64"):
        network = network or Sequential(Affine(units=5), Relu(), Affine(units=3), loss=loss(), seed=0)
        return Trainer(network, x, t, X, t[:1].repeat(40, axis=0), 3, size, SGD(0.2), verbose=False, seed=0, **options)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("size", "accumulate"), [(40, 1), (7, 6), (1, 40)])
def test_is_the_training_on_rows_repeated(name, size, accumulate):
    """In one update an epoch, of one batch or of many."""
    loss, t = LOSSES[name]
    weighted = run(X, t, loss, size, sample_weight=WEIGHTS, accumulate_grad_batches=accumulate)
    repeated = run(X[OFTEN], t[OFTEN], loss, len(OFTEN))
    weighted.train(), repeated.train()
    np.testing.assert_allclose(weighted.history.epoch_loss_list, repeated.history.epoch_loss_list, rtol=1e-9)
    for key, value in repeated.network.params.items():
        np.testing.assert_allclose(weighted.network.params[key], value, rtol=1e-9, atol=1e-12)


def test_labels_of_rows_of_no_weight_are_not_learnt():
    t, weights = X[:, 0] > 0, np.ones(40)
    wrong, weights[::2] = t.copy(), 0.0
    wrong[::2] = ~t[::2]
    trainer = run(X, wrong.astype(int), SoftmaxWithLoss, 1, sample_weight=weights)
    trainer.train()
    assert trainer.network.accuracy(X, t.astype(int)) > 0.9


@pytest.mark.parametrize("kind", [bool, int, np.float32])
def test_may_be_of_any_real_dtype(kind):
    weights = (WEIGHTS > 0).astype(kind)
    trainer = run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=weights)
    trainer.train()
    expected = run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=weights.astype(float))
    expected.train()
    assert trainer.train_loss_list == expected.train_loss_list


def test_goes_with_the_rows_that_are_split_and_shuffled():
    """Each row is its weight."""
    x = np.arange(1.0, 41.0)[:, None]
    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    options = {"sample_weight": x[:, 0], "validation_split": 0.25, "seed": 0}
    trainer = Trainer(network, x, CLASSES, epochs=1, mini_batch_size=7, **options)
    rows = 0
    for batch, _, weights in trainer.batches:
        np.testing.assert_array_equal(batch[:, 0], weights)
        rows += len(weights)
    assert rows == 30


def test_in_a_network_with_weight_decay_and_in_half_precision():
    with xpdl.use("numpy", dtype="float64"):
        net, other = (MultiLayerNet(4, [5], 3, weight_decay_lambda=0.1, seed=0) for _ in range(2))
    weighted, repeated = (
        run(X, CLASSES, None, 40, net, sample_weight=WEIGHTS),
        run(X[OFTEN], CLASSES[OFTEN], None, 99, other),
    )
    weighted.train(), repeated.train()
    for key, value in repeated.network.params.items():
        np.testing.assert_allclose(weighted.network.params[key], value, rtol=1e-9, atol=1e-12)
    half = run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=WEIGHTS, precision="float32")
    half.train()
    whole = run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=WEIGHTS)
    whole.train()
    np.testing.assert_allclose(half.train_loss_list, whole.train_loss_list, rtol=1e-5)


def test_goes_on_from_a_checkpoint_with_the_same_weights(tmp_path):
    options = {"sample_weight": WEIGHTS, "checkpoint": tmp_path / "run"}
    whole = run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=WEIGHTS)
    whole.train()
    first = run(X, CLASSES, SoftmaxWithLoss, 7, **options)
    first.epochs = 1
    first.train()
    with pytest.raises(ValueError, match="checksum of sample_weight"):
        run(X, CLASSES, SoftmaxWithLoss, 7, **{**options, "sample_weight": WEIGHTS + 1}).train()
    resumed = run(X, CLASSES, SoftmaxWithLoss, 7, **options)
    resumed.train()
    assert resumed.train_loss_list == whole.train_loss_list
    assert resumed.history.epoch_loss_list == whole.history.epoch_loss_list


@pytest.mark.parametrize(
    ("t", "rows"),
    [
        (np.full(40, 1), None),
        (np.eye(3)[np.full(40, 1)], None),
        (np.full((40, 1), 1).repeat(3, axis=1) * [0, 1, 0], None),
        (np.where(np.arange(40) < 39, 1, 2), np.arange(40) < 39),
    ],
)
def test_rows_of_classes_without_weight_alone_are_refused(t, rows):
    def loss():
        return SoftmaxWithLoss(class_weights=[1.0, 0.0, 2.0])

    weights = None if rows is None else rows.astype(float)
    with pytest.raises(
        ValueError, match=r"^Trainer: t_train: all rows are of classes that have the weight 0, which leaves"
    ):
        run(X, t, loss, 7, sample_weight=weights)
    # one row that counts is enough
    counts = t.copy()
    counts[0] = 0 if t.ndim == 1 else [1, 0, 0]
    assert run(X, counts, loss, 7, sample_weight=weights).train().train_loss_list[-1] >= 0


def net_of(loss, axes):
    """A net with scores (N, 3) of rows, or (N, 4, 3) of sequences, and inputs for it."""
    x = np.random.default_rng(5).normal(size=(12, *axes, 2)).astype("float32")
    return Sequential(Affine(units=3, axis=-1), loss=loss, seed=0), x


@pytest.mark.parametrize("which", ["train", "val", "test"])
@pytest.mark.parametrize("axes", [(), (4,)], ids=["rows", "sequences"])
@pytest.mark.parametrize(
    ("options", "label", "message"),
    [
        ({"class_weights": [1.0, 0.0, 2.0]}, 1, "all rows are of classes that have the weight 0, which"),
        ({"ignore_label": 2}, 2, "all labels are ignore_label=2, which"),
        ({"class_weights": [1.0, 0.0, 2.0], "ignore_label": 2}, 2, "all labels are ignore_label=2, which"),
        (
            {"class_weights": [1.0, 0.0, 2.0], "ignore_label": 2},
            1,
            "all rows are of classes that have the weight 0, which",
        ),
    ],
)
def test_sets_of_which_no_row_counts_are_refused(options, label, message, axes, which):
    network, x = net_of(SoftmaxWithLoss(**options), axes)
    counts = np.zeros((12, *axes), int)
    none = np.full_like(counts, label)
    names = {"train": "train with", "val": "measure the loss on", "test": "measure the loss on"}

    def trainer(**targets):
        held_out = {"validation_data": (x, targets["val"]), "x_test": x, "t_test": targets["test"]}
        return Trainer(network, x, targets["train"], epochs=1, mini_batch_size=6, verbose=False, **held_out)

    given = dict.fromkeys(names, counts)
    assert trainer(**given).iter_per_epoch == 2
    with pytest.raises(ValueError, match=f"^Trainer: t_{which}: {message} leaves nothing to {names[which]}; give "):
        trainer(**{**given, which: none})
    one = none.copy()
    one[(3,) + (0,) * len(axes)] = 0
    assert trainer(**{**given, which: one}).iter_per_epoch == 2


@pytest.mark.parametrize("which", ["val", "test"])
def test_one_hot_sets_of_classes_without_weight_are_refused(which):
    network, x = net_of(SoftmaxWithLoss(class_weights=[1.0, 0.0, 2.0]), ())
    counts, none = np.eye(3)[np.zeros(12, int)], np.eye(3)[np.ones(12, int)]
    given = {"validation_data": (x, none)} if which == "val" else {"x_test": x, "t_test": none}
    with pytest.raises(ValueError, match=f"^Trainer: t_{which}: all rows are of classes that have the weight 0"):
        Trainer(network, x, counts, epochs=1, mini_batch_size=6, verbose=False, **given)


def _at(row, value):
    weights = np.ones(40)
    weights[row] = value
    return weights


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(39), ShapeError, r"sample_weight, one for each row of x_train, must have shape \(40,\), got \(39,\)"),
        (np.ones((40, 1)), ShapeError, r"must have shape \(40,\), got \(40, 1\)"),
        ((1.0,) * 40, TypeError, r"sample_weight must be an array of rows, a list, or a table .*, got tuple"),
        (_at(3, -1.0), ValueError, "must be finite and at least 0, got -1.0 in row 3"),
        (_at(4, np.nan), ValueError, "must be finite and at least 0, got nan in row 4"),
        (_at(5, np.inf), ValueError, "must be finite and at least 0, got inf in row 5"),
        (np.zeros(40), ValueError, "sample_weight: all weights are 0, which leaves nothing to train with"),
        (np.ones(40, complex), TypeError, "must be real numbers, got complex128"),
    ],
)
def test_what_is_no_weight_is_refused(weights, error, message):
    with pytest.raises(error, match=f"Trainer: {message}" if not message.startswith("must") else message):
        run(X, CLASSES, SoftmaxWithLoss, 7, sample_weight=weights)


@pytest.mark.parametrize("name", ["one-hot rows", "sigmoid", "identity"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_targets_of_rows_of_no_weight_may_be_missing(name, bad):
    loss, t = LOSSES[name]
    t = np.array(t, dtype=float)
    t[WEIGHTS == 0, 0] = bad
    weighted, repeated = run(X, t, loss, 40, sample_weight=WEIGHTS), run(X[OFTEN], t[OFTEN], loss, len(OFTEN))
    weighted.train(), repeated.train()
    for key, value in repeated.network.params.items():
        np.testing.assert_allclose(weighted.network.params[key], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(weighted.x_train, X[WEIGHTS > 0])


def test_missing_targets_of_no_weight_are_not_validated_with():
    t = np.where(WEIGHTS == 0, np.nan, X[:, 0])[:, None]
    network = Sequential(Affine(units=1), loss=IdentityWithLoss, seed=0)
    options = {"validation_split": 0.5, "metrics": ["mse"], "seed": 0, "verbose": False, "epochs": 2}
    history = Trainer(network, X, t, sample_weight=WEIGHTS, **options).train()
    assert np.isfinite(history.metrics["val_mse"]).all() and np.isfinite(history.val_loss_list).all()


def test_of_several_targets_a_row_without_one_is_dropped():
    x, weights = xpdl.Input((4,), "x"), np.where(np.arange(40) < 5, 0.0, 1.0)
    outputs = {"a": Affine(units=1)(x), "b": Affine(units=1)(x)}
    net = xpdl.Graph(x, outputs, loss=dict.fromkeys(outputs, IdentityWithLoss), seed=0)
    t = {"a": X[:, :1].copy(), "b": X[:, 1:2].copy()}
    t["a"][0], t["b"][4] = np.nan, np.inf
    trainer = Trainer(net, X, t, epochs=1, sample_weight=weights, verbose=False)
    np.testing.assert_array_equal(trainer.t_train["a"], np.delete(t["a"], [0, 4], axis=0).astype("float32"))
    assert np.isfinite(trainer.train().epoch_loss_list).all()


def test_missing_targets_of_rows_that_count_are_refused():
    t = np.array(LOSSES["identity"][1])
    t[7] = np.nan
    with pytest.raises(ValueError, match="Trainer: t_train: row 7 holds nan"):
        run(X, t, IdentityWithLoss, 7, sample_weight=np.ones(40))


def test_losses_and_networks_that_take_none_are_refused():
    class Own(LossLayer):
        def forward(self, x, t=None):
            return x.mean()

    class Net(Sequential):
        def gradient(self, x, t):
            return super().gradient(x, t)

    for network in (Sequential(Affine(units=3), loss=Own), Net(Affine(units=3), loss=SoftmaxWithLoss)):
        with pytest.raises(TypeError, match=r"gradient, loss and the loss layer of .* must take sample_weight"):
            run(X, CLASSES, None, 7, network, sample_weight=WEIGHTS)


def test_batches_have_the_weights_of_their_rows():
    batches = Batches(X, CLASSES, 7, seed=0, sample_weight=X[:, 0])
    for x, _, weights in batches:
        np.testing.assert_array_equal(x[:, 0], weights)
    with pytest.raises(ShapeError, match=r"Batches: sample_weight, one for each row, must have shape \(40,\)"):
        Batches(X, CLASSES, 7, sample_weight=X[:5, 0])
