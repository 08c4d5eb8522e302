"""``Trainer(..., compile=True)``: bitwise identical to uncaptured steps with the same kernels."""

import copy
import warnings

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import RULES
from tests.backends.cupy.test_kernels import network
from xpdl import (
    SGD,
    Adam,
    AdamW,
    Affine,
    BackendError,
    BatchNormalization,
    CosineLR,
    Layer,
    MixedPrecision,
    Momentum,
    Relu,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
    TwoLayerNet,
    numerics,
)
from xpdl.backends.cupy import capture as captures
from xpdl.backends.cupy.launch import cupy
from xpdl.layers import Dropout
from xpdl.training import step

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
ROWS, BATCH = 27, 5  # five full batches of an epoch, and one of two rows


@pytest.fixture
def graphs(monkeypatch):
    """The number of launches of each recorded graph."""
    counts = []
    record, launch = captures.Recorder.record, captures.Recording.launch

    def counted_record(self, body):
        recording = record(self, body)
        recording.number = len(counts)
        counts.append(0)
        return recording

    def counted_launch(self, *args):
        counts[self.number] += 1
        launch(self, *args)

    monkeypatch.setattr(captures.Recorder, "record", counted_record)
    monkeypatch.setattr(captures.Recording, "launch", counted_launch)
    return counts


def images(rows=ROWS, shape=(1, 4, 4)):
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, *shape)), rng.integers(0, 10, rows)


def small():
    return Sequential(Affine(units=6), Relu(), Dropout(0.3), Affine(units=3), loss=SoftmaxWithLoss, seed=0)


def made(backend, net, x, t, *, dtype="float64", capture=True, epochs=2, optimizer="adam", **options):
    with backend.use(dtype):
        rule = optimizer() if callable(optimizer) else optimizer
        return Trainer(net(), x, t, x, t, epochs, BATCH, rule, {}, verbose=False, seed=0, compile=capture, **options)


def trained(trainer, *, recording=True):
    """The trainer after its training; without `recording`, every step is uncaptured and has the kernels of captured ones."""
    trainer.step.problem = None if recording else "none is wanted"
    trainer.train()
    return trainer


def assert_same(ours, theirs):
    assert ours.history.train_loss_list == theirs.history.train_loss_list
    assert ours.history.test_acc_list == theirs.history.test_acc_list
    assert ours.optimizer.iter == theirs.optimizer.iter
    for (name, own, key), (_, other, _) in zip(_slots(ours), _slots(theirs), strict=True):
        if isinstance(own[key], cupy().ndarray):
            np.testing.assert_array_equal(own[key].get(), other[key].get(), err_msg=name)
        else:
            assert np.array_equal(own[key], other[key]), name  # a file has lists for tuples


def _slots(trainer):
    yield from trainer.network.named_params()
    yield from trainer.network.named_state()
    for kind in trainer.optimizer.state_names:
        kept = getattr(trainer.optimizer, kind)
        yield from ((f"{kind} {name}", kept, name) for name in kept)


def both(backend, net, x, t, **options):
    ours = trained(made(backend, net, x, t, **options))
    theirs = trained(made(backend, net, x, t, **options), recording=False)
    assert_same(ours, theirs)
    return ours


def test_every_full_batch_after_the_first_is_one_launch(backend, graphs):
    x, t = images()
    both(backend, network, x, t)
    # of two epochs of five full batches, but for those that warm up
    assert graphs == [2 * 5 - captures.Recorder.warm_up]


def test_a_captured_step_launches_kernels_that_are_all_in_its_graph_but_for_the_batch_and_slots(backend, gpu):
    x, t = images()
    trainer = made(backend, small, x.reshape(ROWS, -1), t % 3)
    trained(trainer)
    batch = (trainer.x_train[:BATCH], trainer.t_train[:BATCH])
    gpu.launches.clear()
    trainer.step.replay(*batch)
    assert [each.name for each in gpu.launches] == ["put"]


@pytest.mark.parametrize("rule", RULES)
def test_rules_with_a_rate_that_changes(backend, rule, graphs):
    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, dtype="float32", optimizer=lambda: rule(0.05), callbacks=[CosineLR()])
    assert graphs == [7]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: Adam(0.01, clip_norm=0.1, max_norm=0.5, weight_decay={"l2": 0.01}),
        lambda: AdamW(0.01, weight_decay=0.1),
    ],
)
def test_clipping_and_decay(backend, optimizer, graphs):
    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, optimizer=optimizer)
    assert graphs == [7]


@pytest.mark.parametrize("weighted", [True, False])
def test_losses_that_weigh_rows(backend, weighted, graphs):
    """The mean loss of an epoch is the same too, in which each step counts by the weights of its batch."""
    x, t = images(shape=(4,))

    def net():
        loss = SoftmaxWithLoss(class_weights=[1.0, 5.0, 2.0])
        return Sequential(Affine(units=6), Relu(), Affine(units=3), loss=loss, seed=0)

    rows = {"sample_weight": np.arange(ROWS) % 4} if weighted else {}
    ours = both(backend, net, x, t % 3, **rows)
    assert graphs == [7]
    theirs = trained(made(backend, net, x, t % 3, **rows), recording=False)
    assert ours.history.epoch_loss_list == theirs.history.epoch_loss_list


@pytest.mark.needs("ml_dtypes")
def test_half_precision_without_a_scale(backend, graphs):
    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, dtype="float32", precision="bfloat16")
    assert graphs == [7]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_precision_with_a_scale_and_skipped_updates(backend, rule, dtype, graphs):
    x, t = images(shape=(4,))
    # overflows at first, so that it is halved, in captured steps too, and then doubled now and then
    ours, theirs = (
        trained(
            made(
                backend,
                small,
                x,
                t % 3,
                dtype=dtype,
                epochs=4,
                optimizer=rule(0.01),
                callbacks=[CosineLR()],
                precision=MixedPrecision(scale=2.0**25, growth_interval=3),
            ),
            recording=recording,
        )
        for recording in (True, False)
    )
    assert_same(ours, theirs)
    assert ours.precision.loss_scale.state_dict() == theirs.precision.loss_scale.state_dict()
    assert graphs == [4 * 5 - captures.Recorder.warm_up]
    assert captures.Recorder.warm_up < ours.precision.skipped_steps < 4 * 6
    assert ours.optimizer.iter + ours.precision.skipped_steps == 4 * 6


def test_a_scale_that_is_read_between_captured_steps_is_put_back(backend, monkeypatch, graphs):
    monkeypatch.setattr(step, "STEPS_BETWEEN_READS", 4)
    x, t = images(shape=(4,))
    # read before every fourth step, it is on the host in between
    ours = both(
        backend, network, x.repeat(4, 1).reshape(ROWS, 1, 4, 4), t, dtype="float32", epochs=3, precision="float16"
    )
    assert len(graphs) == 1 and graphs[0] > 3
    assert ours.precision.scale > 1


def test_the_loss_is_read_in_uncaptured_steps(backend, monkeypatch, graphs):
    monkeypatch.setattr(step, "STEPS_BETWEEN_READS", 4)
    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, epochs=3)
    # each epoch has six steps: the fourth is read, the last one is not full; of all, three are first ones
    assert graphs == [18 - 3 - 3 - 3]


def test_a_number_of_the_rule_that_changes_is_recorded_anew(backend, graphs):
    class Changes:
        def on_epoch_begin(self, trainer, epoch):
            trainer.optimizer.momentum = 0.5 + 0.1 * epoch

    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, optimizer=lambda: Momentum(0.1), callbacks=[Changes()])
    assert len(graphs) == 2


def test_memory_that_is_put_back_from_a_state_is_recorded_anew(backend, graphs):
    class Reloads:
        def on_epoch_begin(self, trainer, epoch):
            trainer.optimizer.load_state_dict(trainer.optimizer.state_dict())

    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, callbacks=[Reloads()])
    assert len(graphs) == 2


def test_a_setting_of_products_that_changes_is_recorded_anew(backend, graphs):
    class Sets:
        def on_epoch_begin(self, trainer, epoch):
            numerics(precision=["highest", "tf32"][epoch - 1])

    x, t = images(shape=(4,))
    with numerics():
        both(backend, small, x, t % 3, callbacks=[Sets()])
    assert len(graphs) == 2


def test_batches_of_another_dtype_are_recorded_anew(backend, graphs):
    def sometimes_narrow(x, stream):
        return x if stream.path < "epoch 1" else x.astype("float32")

    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, augment=sometimes_narrow)
    assert len(graphs) == 2


def test_parameters_in_another_place_are_recorded_anew(backend, graphs):
    class Moves:
        def on_epoch_begin(self, trainer, epoch):
            trainer.network.params["Affine1.W"] = trainer.network.params["Affine1.W"] * 0.5

    x, t = images(shape=(4,))
    both(backend, small, x, t % 3, callbacks=[Moves()])
    assert len(graphs) == 2


def test_a_resumed_run_is_bitwise_identical_to_an_uninterrupted_one(backend, tmp_path):
    x, t = images(shape=(4,))
    whole = trained(made(backend, small, x, t % 3, epochs=3))
    trained(made(backend, small, x, t % 3, checkpoint=tmp_path / "run"))
    assert_same(trained(made(backend, small, x, t % 3, epochs=3, checkpoint=tmp_path / "run")), whole)


def test_a_loss_that_is_not_finite_ends_the_run_where_it_would_without(backend):
    x, t = images(shape=(4,))
    said = []
    for recording in (True, False):
        trainer = made(backend, small, x, t % 3, optimizer=SGD(1e300))
        with pytest.raises(FloatingPointError) as error, np.errstate(all="ignore"):
            trained(trainer, recording=recording)
        said.append((str(error.value), trainer.history.train_loss_list))
    assert said[0] == said[1]


class Reads(Layer):
    """Looks at a value on the host."""

    def forward(self, x):
        self.sum = float(x.sum())
        return x

    def backward(self, dout):
        return dout


class Counts(Layer):
    """Does something else in each step, and says so."""

    def __init__(self):
        super().__init__()
        self.state["calls"] = 0

    def forward(self, x):
        self.state["calls"] += 1
        return x * (1.0 + 1.0 / self.state["calls"])

    def backward(self, dout):
        return dout * (1.0 + 1.0 / self.state["calls"])


class Multiplies(Layer):
    """Asks cuBLAS for a product."""

    def forward(self, x):
        self.identity = cupy().ones(()) * cupy().eye(x.shape[1])
        return cupy().matmul(x, self.identity)

    def backward(self, dout):
        return dout


class Moved(Layer):
    """Brings an array from the host."""

    def forward(self, x):
        return x * cupy().asarray(np.ones(x.shape[1]))

    def backward(self, dout):
        return dout


class Fills(Layer):
    """Takes all memory that is left."""

    def forward(self, x):
        if captures.is_recording():
            raise cupy().cuda.memory.OutOfMemoryError(1000, 0)
        return x

    def backward(self, dout):
        return dout


@pytest.mark.parametrize(
    "layer, reason",
    [
        (Reads, "[Cc]aptur"),
        (Counts, "a layer counts 'calls' on the host"),
        (Multiplies, "calling cuBLAS API"),
        (Moved, "H2D transfers are disallowed"),
        (Fills, "Out of memory allocating 1,000 bytes"),
    ],
)
def test_a_step_that_cannot_be_captured_says_why_and_goes_on(backend, layer, reason, graphs):
    def net():
        return Sequential(Affine(units=4), layer(), Dropout(0.2), Affine(units=3), loss=SoftmaxWithLoss, seed=0)

    x, t = images(shape=(4,))
    theirs = trained(made(backend, net, x, t % 3), recording=False)
    with pytest.warns(UserWarning, match=f"cannot be compiled, and all are made eagerly: .*{reason}") as warned:
        ours = trained(made(backend, net, x, t % 3))
    assert len(warned) == 1 and not any(graphs)
    assert_same(ours, theirs)


def test_steps_that_are_not_captured_follow_a_failed_recording_from_where_they_were(backend):
    class Fails(Layer):
        def forward(self, x):
            return x

        def backward(self, dout):
            if captures.is_recording():
                raise RuntimeError("this one fails halfway")
            return dout

    def net():
        layers = [Affine(units=4), Fails(), Dropout(0.2), BatchNormalization(), Affine(units=3)]
        return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)

    x, t = images(shape=(4,))
    with pytest.warns(UserWarning, match="this one fails halfway"):
        ours = trained(made(backend, net, x, t % 3))
    assert_same(ours, trained(made(backend, net, x, t % 3), recording=False))


class TestRefused:
    def test_other_libraries(self):
        x, t = images(shape=(4,))
        with pytest.raises(
            BackendError, match=r'steps are compiled with CuPy .* and the network is of numpy: .*xpdl.use\("cupy"\)'
        ):
            Trainer(TwoLayerNet(4, 3, 10), x, t, x, t, compile=True)

    def test_what_is_no_flag(self):
        x, t = images(shape=(4,))
        with pytest.raises(TypeError, match="compile must be True or False"):
            Trainer(TwoLayerNet(4, 3, 10), x, t, x, t, compile="yes")

    def test_gradients_of_several_batches(self, backend):
        x, t = images(shape=(4,))
        with pytest.raises(ValueError, match="goes with accumulate_grad_batches=1 alone"):
            made(backend, small, x, t % 3, accumulate_grad_batches=2)

    def test_a_step_of_ones_own(self, backend):
        class Halved(SGD):
            def step(self, p, g, *memory):
                return (p - self.lr * g / 2,)

        x, t = images(shape=(4,))
        with pytest.raises(TypeError, match="Halved has a step of its own"):
            made(backend, small, x, t % 3, optimizer=Halved())

    def test_a_network_of_ones_own(self, backend):
        class Net:
            def __init__(self):
                self.params = {"W": cupy().ones((4, 3))}

            def gradient(self, x, t):
                raise AssertionError

            loss = accuracy = gradient

        with pytest.raises(TypeError, match=r"needs a Sequential, .* got Net"):
            made(backend, Net, *images(shape=(4,)))


def test_nothing_is_captured_where_nobody_asks(backend, gpu, graphs):
    x, t = images(shape=(4,))
    trainer = made(backend, small, x, t % 3, capture=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.train()
    assert type(trainer.step) is step.EagerStep and not graphs and "matmul" not in gpu.launched()


def test_a_copy_of_a_trainer_captures_steps_of_its_own(backend, graphs):
    x, t = images()
    ours = made(backend, network, x, t, epochs=1)
    trained(ours)
    copied = copy.deepcopy(ours)
    ours.epochs = copied.epochs = 2
    trained(ours)
    trained(copied)
    assert_same(ours, copied)
    assert copied.step._recorded and copied.step._recorded[None] is not ours.step._recorded[None]
