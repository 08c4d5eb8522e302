"""Arguments that a resumed run must repeat."""

import json
import warnings
from contextlib import nullcontext as does_not_raise

import numpy as np
import pytest

from tests.training.checkpoint.test_format import RNG, STEPS, Once, Stop, T, X, assert_same_run
from xpdl.io import tensors
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    IdentityWithLoss,
    Layer,
    Pooling,
    Relu,
    Residual,
    SoftmaxWithLoss,
)
from xpdl.models import MultiLayerNet, Sequential
from xpdl.training import (
    EMA,
    Callback,
    CosineLR,
    CSVLogger,
    EarlyStopping,
    ExponentialLR,
    LearningRateSchedule,
    ModelCheckpoint,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    Trainer,
    WarmupLR,
)

IMAGES = RNG.normal(size=(12, 1, 6, 6)).astype(np.float32)
LABELS = np.arange(12) % 3


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def made(path, *layers, callbacks=(), epochs=1, x=IMAGES, t=LABELS, network=None, **options):
    if network is None:
        network = Sequential(*layers, Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    options = {"verbose": False, "seed": 0, "checkpoint": path, "callbacks": callbacks, **options}
    return Trainer(network, x, t, x, t, epochs, 6, **options)


class Scaled(Layer):
    """A layer of one's own."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor

    def backward(self, dout):
        return dout * self.factor


class Decays(Callback):
    changes_training = True

    def __init__(self, rate, *ignored, **also_ignored):
        self.rate = rate

    def on_epoch_end(self, trainer, epoch):
        trainer.optimizer.lr *= self.rate


@pytest.mark.parametrize(
    "one, other, says",
    [
        ([Dropout(0.3)], [Dropout(0.5)], r"Dropout1\.dropout_ratio 0\.3 there, 0\.5 here"),
        ([Dropout(0.3)], [Dropout(0.3, inverted=True)], r"Dropout1\.inverted False there, True here"),
        ([BatchNormalization(momentum=0.9)], [BatchNormalization(momentum=0.8)], r"\.momentum 0\.9 there, 0\.8 here"),
        (
            [Convolution(filters=2, size=3, pad=1)],
            [Convolution(filters=2, size=3, pad=1, dilation=(1, 2), stride=(1, 1))],
            r"Convolution1\.dilation \(1, 1\) there, \(1, 2\) here",
        ),
        ([Pooling(2, 2)], [Pooling(3, 3, stride=2, pad=1)], r"Pooling1\.(pool_h|pool_w|pad) .* there, .* here"),
        (
            [Residual(Relu(), Dropout(0.1))],
            [Residual(Relu(), Dropout(0.2))],
            r"Residual1\.body\.Dropout1\.dropout_ratio 0\.1 there, 0\.2 here",
        ),
        ([Scaled(2.0)], [Scaled(3.0)], r"Scaled1\.factor 2\.0 there, 3\.0 here"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value.replace("\\", "").split()[0],
)
def test_other_arguments_of_a_layer_are_refused(path, one, other, says):
    made(path, *one).train()
    with pytest.raises(ValueError, match=rf"run: belongs to another run .*{says}") as said:
        made(path, *other).train()
    assert "\n" not in str(said.value) and str(said.value).endswith(
        "; give what it began with, or remove it, or name another file"
    )


@pytest.mark.parametrize(
    "one, other, says",
    [
        (StepLR(2), StepLR(3), r"StepLR1\.step_size 2 there, 3 here"),
        (StepLR(2), StepLR(2, gamma=0.5), r"StepLR1\.gamma 0\.1 there, 0\.5 here"),
        (ExponentialLR(0.9), ExponentialLR(0.8), r"ExponentialLR1\.gamma 0\.9 there, 0\.8 here"),
        (CosineLR(5), CosineLR(6), r"CosineLR1\.epochs 5 there, 6 here"),
        (OneCycleLR(), OneCycleLR(rise=0.2), r"OneCycleLR1\.rise 0\.3 there, 0\.2 here"),
        (
            WarmupLR(1, CosineLR()),
            WarmupLR(1, CosineLR(final=0.1)),
            r"\.after CosineLR\(epochs=None, final=0\.0\) there, CosineLR\(epochs=None, final=0\.1\) here",
        ),
        (ReduceLROnPlateau("loss"), ReduceLROnPlateau("train_acc"), r"\.monitor 'loss' there, 'train_acc' here"),
        (EarlyStopping(patience=3), EarlyStopping(patience=4), r"EarlyStopping1\.patience 3 there, 4 here"),
        (EarlyStopping(), EarlyStopping("loss"), r"EarlyStopping1\.monitor None there, 'loss' here"),
        (EMA(0.9), EMA(0.99), r"EMA1\.decay 0\.9 there, 0\.99 here"),
        (Decays(0.5), Decays(0.6), r"callbacks|rate"),
        (EMA(0.9), EarlyStopping(), r"callbacks \['EMA'\] there, \['EarlyStopping'\] here"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_arguments_of_a_callback_are_refused(path, one, other, says):
    made(path, callbacks=[one]).train()
    with pytest.raises(ValueError, match=rf"belongs to another run .*{says}"):
        made(path, callbacks=[other]).train()


def test_other_arguments_of_a_model_are_refused(path):
    def net(decay, seed):
        return MultiLayerNet(36, [4], 3, weight_decay_lambda=decay, seed=seed)

    x = IMAGES.reshape(12, 36)
    made(path, network=net(0.1, 0), x=x).train()
    with pytest.raises(ValueError, match=r"MultiLayerNet\.weight_decay_lambda 0\.1 there, 0\.2 here"):
        made(path, network=net(0.2, 0), x=x).train()
    made(path, network=net(0.1, 1), x=x).train()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"t": np.roll(LABELS, 1)}, "checksum of the labels [0-9a-f]{16} there, [0-9a-f]{16} here"),
        ({"evaluate_sample_num_per_epoch": 5}, "evaluate_sample_num_per_epoch None there, 5 here"),
        ({"x": IMAGES.reshape(12, 36), "network": MultiLayerNet(36, [4], 3, seed=0)}, "network Sequential there"),
    ],
)
def test_other_options_of_a_trainer_are_refused(path, options, says):
    made(path, Relu()).train()
    with pytest.raises(ValueError, match=rf"belongs to another run .*{says}"):
        made(path, Relu(), **options).train()


@pytest.mark.parametrize("shape", [(12, 3), (12,)])
def test_other_numbers_to_aim_at_are_refused_as_other_labels_are(path, shape):
    targets = np.random.default_rng(0).normal(size=shape)

    def run(path, targets, **options):
        units = 1 if targets.ndim == 1 else 3
        network = Sequential(Affine(units=units), loss=IdentityWithLoss, seed=0)
        return made(path, network=network, t=targets[:, None] if units == 1 else targets, **options)

    whole = run(None, targets, epochs=2)
    whole.train()
    run(path, targets).train()
    other = targets.copy()
    other[7] += 1e-5
    for wrong in (other, targets[::-1]):
        with pytest.raises(ValueError, match=r"checksum of the targets [0-9a-f]{16} there, [0-9a-f]{16} here"):
            run(path, wrong, epochs=2).train()
    # the network is in float32, and so are targets in a training
    resumed = run(path, targets.astype(np.float32), epochs=2)
    resumed.train()
    assert_same_run(whole, resumed)


def test_numbers_in_the_place_of_labels_are_refused(path):
    made(path).train()
    with pytest.raises(ValueError, match=r"checksum of the labels [0-9a-f]{16} there, None here"):
        made(path, t=np.eye(3, dtype=np.float32)[LABELS]).train()


@pytest.mark.parametrize("labels", [LABELS.astype(np.int32), LABELS.astype(np.uint8)])
def test_labels_are_the_same_in_any_dtype(path, labels):
    made(path).train()
    with does_not_raise():
        made(path, t=labels).train()


@pytest.mark.parametrize("schedule", [CosineLR, OneCycleLR, lambda: WarmupLR(1, OneCycleLR())])
def test_a_schedule_over_the_whole_training_is_another_one_over_a_longer_one(path, schedule):
    made(path, callbacks=[schedule()], epochs=2).train()
    with pytest.raises(ValueError, match="epochs of the schedules 2 there, 4 here"):
        made(path, callbacks=[schedule()], epochs=4).train()


@pytest.mark.parametrize("schedule", [lambda: CosineLR(4), lambda: StepLR(2), lambda: WarmupLR(1, OneCycleLR(3))])
def test_a_schedule_with_a_length_of_its_own_goes_on(path, schedule):
    whole = made(None, callbacks=[schedule()], epochs=4)
    whole.train()
    made(path, callbacks=[schedule()], epochs=2).train()
    resumed = made(path, callbacks=[schedule()], epochs=4)
    resumed.train()
    assert_same_run(whole, resumed)


def test_what_leaves_the_training_as_it_is_may_be_another(path, tmp_path):
    made(path, callbacks=[ModelCheckpoint(tmp_path / "a"), CSVLogger(tmp_path / "a.csv")]).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = made(path, callbacks=[ModelCheckpoint(tmp_path / "b"), CSVLogger(tmp_path / "b.csv")], epochs=2)
        assert len(again.train().train_acc_list) == 2


def test_functions_are_compared_by_name(path):
    def halved(position):
        return 0.5

    def same():
        return LearningRateSchedule(halved)

    made(path, callbacks=[same()]).train()
    made(path, callbacks=[same()]).train()
    with pytest.raises(ValueError, match=r"factor <function .*halved> there, <function .*<lambda>> here"):
        made(path, callbacks=[LearningRateSchedule(lambda position: 0.5)]).train()


def test_of_an_earlier_version_is_read_with_a_warning_that_names_what_it_lacks(path):
    whole = made(None, Dropout(0.3), epochs=3)
    whole.train()
    made(path, Dropout(0.3)).train()
    arrays, metadata = tensors.load_arrays(path)
    run = json.loads(metadata["run"])
    for name in ("arguments", "callbacks", "checksum of the labels"):
        del run[name]
    counters = {name: value for name, value in json.loads(metadata["counters"]).items() if "stream" not in name}
    tensors.write_tensors(path, arrays, {**metadata, "run": json.dumps(run), "counters": json.dumps(counters)})
    resumed = made(path, Dropout(0.3), epochs=3)
    with pytest.warns(
        UserWarning, match="did not keep callbacks, arguments, checksum of the labels: see to it"
    ) as said:
        resumed.train()
    assert len(said) == 1 and "\n" not in str(said[0].message)
    assert_same_run(whole, resumed)
    # and what such a version did keep is compared as ever
    tensors.write_tensors(path, arrays, {**metadata, "run": json.dumps({**run, "seed": 1})})
    with pytest.raises(ValueError, match="seed 1 there, 0 here"):
        made(path, Dropout(0.3)).train()


def test_arguments_that_another_version_does_not_have_are_not_compared(path):
    made(path, Dropout(0.3)).train()
    arrays, metadata = tensors.load_arrays(path)
    run = json.loads(metadata["run"])
    del run["arguments"]["Dropout1.inverted"]
    run["arguments"]["Dropout1.new"] = "1"
    tensors.write_tensors(path, arrays, {**metadata, "run": json.dumps(run)})
    with does_not_raise():
        made(path, Dropout(0.3)).train()


@pytest.mark.parametrize("seed", [1, None])
def test_masks_of_dropout_go_on_whatever_the_seed_of_the_network_is_then(path, seed):
    def on(seed, **options):
        network = Sequential(Affine(units=8), Dropout(0.4), Affine(units=3), loss=SoftmaxWithLoss, seed=seed)
        return Trainer(network, X, T, X, T, 4, 10, verbose=False, seed=0, **options)

    whole = on(0)
    whole.train()
    with pytest.raises(Stop):
        on(0, checkpoint=path, checkpoint_every=1, callbacks=[Once(6, Stop())]).train()
    resumed = on(seed, checkpoint=path)
    resumed.train()
    assert resumed.current_iter == STEPS
    assert_same_run(whole, resumed)


def test_options_are_compared_under_the_names_that_an_earlier_version_had_for_them(path):
    made(path, accumulate_grad_batches=2).train()
    arrays, metadata = tensors.load_arrays(path)
    run = json.loads(metadata["run"])
    run |= {"accumulate": run.pop("accumulate_grad_batches"), "capture": run.pop("compile")}
    tensors.write_tensors(path, arrays, {**metadata, "run": json.dumps(run)})
    with pytest.raises(ValueError, match=r"belongs to another run \(accumulate_grad_batches 2 there, 3 here\)"):
        made(path, accumulate_grad_batches=3).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made(path, accumulate_grad_batches=2).train().train_loss_list
    tensors.write_tensors(path, arrays, {**metadata, "run": json.dumps({**run, "capture": True})})
    with pytest.raises(ValueError, match=r"\(compile True there, False here\)"):
        made(path, accumulate_grad_batches=2).train()
