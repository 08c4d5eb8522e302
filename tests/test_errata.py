"""Each row of docs/errata.md: what is wrong or surprising in the book's code, and what happens here."""

import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import xpdl
from xpdl import (
    AdaDelta,
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    DeepConvNet,
    Dropout,
    DTypeError,
    LabelError,
    MultiLayerNet,
    Nesterov,
    Pooling,
    Relu,
    Sequential,
    ShapeError,
    SimpleConvNet,
    SoftmaxWithLoss,
    Trainer,
    TwoLayerNet,
    col2im,
    conv_output_size,
    im2col,
    numerical_gradient,
    sigmoid,
)

RNG = np.random.default_rng(0)


def test_01_conv_output_size_is_an_int_or_an_error():
    size = conv_output_size(28, 5, stride=2)
    assert size == 12 and type(size) is int
    with pytest.raises(ShapeError):
        conv_output_size(3, 5)


def test_02_padded_pooling_works_for_negative_values():
    x = -1 - RNG.random((1, 2, 4, 4))
    out = Pooling(2, 2, 2, pad=1).forward(x)
    assert out.shape == (1, 2, 3, 3) and out.max() < -1
    assert out[0, 0, 0, 0] == x[0, 0, 0, 0]


def test_03_relu_backward_leaves_the_callers_gradient():
    layer, dout = Relu(), np.ones(4)
    layer.forward(np.array([-1.0, 2.0, -3.0, 4.0]))
    layer.backward(dout)
    np.testing.assert_array_equal(dout, np.ones(4))


def test_04_float32_stays_float32():
    x = RNG.random((2, 1, 6, 6)).astype(np.float32)
    columns = im2col(x, 3, 3)
    assert columns.dtype == col2im(columns, x.shape, 3, 3).dtype == np.float32
    assert Pooling(2, 2).forward(x).dtype == np.float32
    network = SimpleConvNet((1, 6, 6), {"filter_size": 3}, hidden_size=4, seed=0)
    assert {g.dtype for g in network.gradient(x, np.array([1, 2])).values()} == {np.dtype(np.float32)}


def test_05_batch_normalisation_of_images_is_per_channel():
    x = RNG.normal(3.0, 2.0, (8, 3, 5, 5))
    y = BatchNormalization(np.ones(3), np.zeros(3)).forward(x, True)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-5)
    per_activation = BatchNormalization(np.ones(75), np.zeros(75)).forward(x, True)
    np.testing.assert_allclose(per_activation.mean(axis=0), 0, atol=1e-12)


def test_06_untrained_batch_normalisation_changes_little():
    x = RNG.normal(size=(5, 4))
    np.testing.assert_allclose(BatchNormalization(np.ones(4), np.zeros(4)).forward(x, False), x, rtol=1e-5)


def test_07_accuracy_counts_all_rows():
    network = TwoLayerNet(4, 5, 3, seed=0)
    x = RNG.normal(size=(150, 4)).astype(np.float32)
    t = network.predict(x).argmax(axis=1)
    assert network.accuracy(x, t) == network.accuracy(x, t, batch_size=100) == 1.0


def test_08_epochs_are_exact():
    x, t = RNG.random((25, 4)).astype(np.float32), RNG.integers(0, 3, 25)
    trainer = Trainer(TwoLayerNet(4, 5, 3), x, t, x, t, epochs=4, mini_batch_size=10, verbose=False)
    history = trainer.train()
    assert trainer.iter_per_epoch == 3 and len(history.train_loss_list) == 12 and len(history.test_acc_list) == 4


def test_09_an_epoch_is_one_pass_with_one_forward_per_step(monkeypatch):
    rows = []
    forward = Affine.forward

    def watched(self, x):
        rows.append(x)
        return forward(self, x)

    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    x, t = np.arange(50.0, dtype=np.float32).reshape(25, 2), RNG.integers(0, 3, 25)
    trainer = Trainer(network, x, t, x, t, epochs=1, mini_batch_size=10, evaluate_sample_num_per_epoch=1, verbose=False)
    monkeypatch.setattr(Affine, "forward", watched)
    trainer.train()
    trained, evaluated = rows[:-2], rows[-2:]
    assert [len(r) for r in evaluated] == [1, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate(trained), axis=0), x)


def test_10_numerical_gradient_of_integers_is_an_error():
    with pytest.raises(DTypeError, match="float"):
        numerical_gradient(lambda x: (x**2).sum(), np.array([3, 4]))


@pytest.mark.backends("plain")
def test_11_numerical_gradient_works_in_float32_on_every_backend(backend):
    x = backend.asarray(np.array([[3.0, -4.0], [0.5, 2.0]], np.float32))
    found = numerical_gradient(lambda x: backend.xp.sum(x**2), x)
    np.testing.assert_allclose(backend.to_numpy(found), 2 * backend.to_numpy(x), rtol=1e-3, atol=2e-3)


def test_12_one_output_is_no_one_hot_and_the_loss_does_not_saturate():
    assert xpdl.cross_entropy_error(np.array([[0.5], [0.25]]), np.array([0, 0])) == pytest.approx(
        np.log(8) / 2, rel=1e-5
    )
    assert SoftmaxWithLoss().forward(np.array([[0.0, 100.0]]), np.array([0])) == pytest.approx(100.0)


def test_13_loss_backward_scales_by_its_argument():
    layer = SoftmaxWithLoss()
    layer.forward(RNG.normal(size=(3, 4)), np.array([0, 1, 2]))
    np.testing.assert_allclose(layer.backward(2.5), 2.5 * layer.backward())


def test_14_dropout_scales_at_test_time_or_inverted():
    x = np.ones((2, 3))
    np.testing.assert_array_equal(Dropout(0.25).forward(x, False), 0.75 * x)
    np.testing.assert_array_equal(Dropout(0.25, inverted=True).forward(x, False), x)


def test_15_sigmoid_of_large_values_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(sigmoid(np.array([-1e5, 0.0, 1e5])), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_16_shuffle_takes_any_rank_and_smoothing_any_length(rank):
    x = np.arange(6.0).reshape(6, *(1,) * (rank - 1))
    shuffled, t = xpdl.shuffle_dataset(x, np.arange(6))
    np.testing.assert_array_equal(shuffled.reshape(6), t)
    assert xpdl.smooth_curve([1.0] * rank).shape == (rank,)


def test_17_odd_sizes_fit():
    network = SimpleConvNet((1, 10, 9), {"filter_num": 3, "filter_size": 3, "pad": 0, "stride": 2}, hidden_size=4)
    assert network.predict(RNG.random((2, 1, 10, 9)).astype(np.float32)).shape == (2, 10)


def test_18_saving_is_complete_and_writes_no_pickle(tmp_path):
    network = Sequential(Affine(units=4), BatchNormalization(), loss=SoftmaxWithLoss, seed=0)
    x = RNG.normal(size=(9, 3)).astype(np.float32)
    network.gradient(x, RNG.integers(0, 4, 9))
    network.save_params(tmp_path / "net")
    other = Sequential(Affine(units=4), BatchNormalization(), loss=SoftmaxWithLoss, seed=1)
    other.load_params(tmp_path / "net")
    np.testing.assert_array_equal(network.predict(x), other.predict(x))
    assert other.layers["Affine1"].W is other.params["Affine1.W"]
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "net").read_bytes())


def test_19_deep_conv_net_has_dropout_on_the_scores_and_says_so():
    assert isinstance(list(DeepConvNet().layers.values())[-1], Dropout)
    assert "dropout also after the last affine" in " ".join((DeepConvNet.__doc__ or "").split())


def test_20_modes_are_set_by_train_and_eval_and_by_train_flg():
    layer, x = Dropout(0.5), np.ones((20, 20))
    assert (layer.forward(x, True) == 0).any() and not (layer.forward(x, False) == 0).any()
    network = Sequential(("my own name", layer), loss=SoftmaxWithLoss)
    assert (network.train().forward(x) == 0).any() and not (network.eval().forward(x) == 0).any()


def test_21_ada_delta_is_there_and_adam_states_its_formula():
    params = {"x": np.array([1.0])}
    AdaDelta().update(params, {"x": np.array([2.0])})
    assert params["x"] < 1
    params = {"x": np.array([1.0])}
    Adam(0.1).update(params, {"x": np.array([2.0])})
    # m = 0.2, v = 0.004, lr_1 = 0.1 sqrt(0.001) / 0.1
    assert params["x"][0] == pytest.approx(1 - np.sqrt(0.001) * 0.2 / (np.sqrt(0.004) + 1e-7), rel=1e-12)
    assert "sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)" in (Adam.__doc__ or "")


def test_22_nesterov_uses_the_old_velocity():
    params, nesterov = {"x": np.array([1.0])}, Nesterov(lr=0.1, momentum=0.9)
    x, v = 1.0, 0.0
    for _ in range(3):
        nesterov.update(params, {"x": 2 * params["x"]})
        # x is theta + mu v of arXiv:1212.0901, whose theta moves by v
        previous, v = v, 0.9 * v - 0.1 * 2 * x
        x = x - 0.9 * previous + 1.9 * v
    assert params["x"][0] == pytest.approx(x, rel=1e-12)


def test_23_labels_out_of_range_are_an_error_when_they_enter():
    x, t = RNG.random((6, 4)).astype(np.float32), np.array([0, 1, 2, 3, 0, 1])
    with pytest.raises(LabelError, match="3"):
        Trainer(TwoLayerNet(4, 5, 3), x, t, x, t)
    with pytest.raises(LabelError, match="3"):
        SoftmaxWithLoss().forward(np.zeros((6, 3)), t)


def test_24_scales_of_initial_weights_follow_from_the_shape():
    network = MultiLayerNet(400, [300], 10, activation="relu", seed=0)
    assert network.params["W1"].std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    layer = Convolution(filters=64, size=5, init="he")
    layer.build((8, 9, 9))
    assert layer.W.std() == pytest.approx(np.sqrt(2 / (8 * 25)), rel=0.05)


def test_page_has_each_row():
    root = Path(__file__).parents[1]
    rows = [int(n) for n in re.findall(r"^\| (\d+) \|", (root / "docs" / "errata.md").read_text(), re.MULTILINE)]
    assert rows == list(range(1, 25))
    tests = {int(name[5:7]) for name in globals() if re.match(r"test_\d\d_", name)}
    assert tests == set(rows)
    assert re.search(r"\b(\d+) defects\b", (root / "README.md").read_text())[1] == str(len(rows))
