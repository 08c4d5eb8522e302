"""A device that is given is the device that is used, whichever is the current one: on CuPy with two GPUs.

Without a GPU: ``CUPY_ON_HOST=1 HOSTCUDA_DEVICES=2``, where the devices cannot read each other's memory.
"""

import numpy as np
import pytest

import xpdl
from tests.harness import SPECS, Backend, problem
from xpdl import (
    EMA,
    Adam,
    Affine,
    AveragePooling,
    BackendError,
    Batches,
    BatchNormalization,
    Convolution,
    Diagnostics,
    Dropout,
    EarlyStopping,
    GlobalAveragePooling,
    MixedPrecision,
    ModelCheckpoint,
    OneCycleLR,
    Pooling,
    ReduceLROnPlateau,
    Relu,
    Residual,
    Sequential,
    Sigmoid,
    SoftmaxWithLoss,
    Tanh,
    Trainer,
    augment,
    check_gradients,
    compare_backends,
)
from xpdl.data import Prefetch

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(23, 2, 8, 8)).astype("float32"), RNG.integers(0, 3, 23)


@pytest.fixture(params=[0, 1])
def current(request):
    """The number of the current device, while everything else here is asked to be on device 1."""
    if reason := problem(SPECS["cupy:device1"]):
        pytest.skip(reason)
    import cupy

    with cupy.cuda.Device(request.param):
        yield request.param
        assert cupy.cuda.device.get_device_id() == request.param, "left another device as the current one"


class Own(xpdl.Layer):
    """A layer by a user: operators and functions of the namespace."""

    def forward(self, x):
        xp = xpdl.backends.namespaces.array_namespace(x)
        self.out = xp.exp(-x * x) + 0.5 * x
        self.slope = -2.0 * x * xp.exp(-x * x) + 0.5
        return self.out

    def backward(self, dout):
        return dout * self.slope


def network():
    return Sequential(
        Convolution(filters=4, size=3, pad=1),
        BatchNormalization(),
        Relu(),
        Pooling(2, 2),
        Residual(Convolution(filters=4, size=3, pad=1, groups=2), Tanh()),
        AveragePooling(2, 2),
        Own(),
        Dropout(0.2),
        Convolution(filters=6, size=1),
        Sigmoid(),
        GlobalAveragePooling(),
        Affine(units=3),
        loss=SoftmaxWithLoss,
        seed=1,
    )


def numbers(arrays):
    return {int(a.device.id) for a in arrays}


def trained(device, folder, **options):
    with xpdl.use("cupy", device=device):
        net = network()
        trainer = Trainer(net, X, T, X, T, 2, 5, options.pop("optimizer", "adam"), {}, verbose=False, seed=0, **options)
    trainer.train()
    return trainer


OPTIONS = {
    "plain": {},
    "every optimizer option": {
        "optimizer": lambda: Adam(weight_decay={"l1": 1e-3, "l2": 1e-3}, max_norm=0.5, clip_norm=0.1)
    },
    "rule of one's own": {"optimizer": lambda: Mine(lr=0.1, weight_decay={"l1": 1e-3}, max_norm=0.5, clip_norm=0.1)},
    "float16": {"precision": lambda: MixedPrecision("float16", growth_interval=2)},
    "bfloat16": {"precision": "bfloat16"},
    "captured": {"compile": True},
    "accumulated and split": {"accumulate_grad_batches": 2, "validation_split": 0.2},
    "augmented": {
        "augment": lambda: [
            augment.Shift(1),
            augment.Flip(0.5, 0.5),
            augment.Rotate(9),
            augment.Scale(),
            augment.Elastic(9.0, 2.0),
            augment.Cutout(3),
            augment.Noise(),
            augment.Brightness(),
            augment.Crop(pad=1),
            lambda x: x * 1.5 + 0.25,
        ]
    },
}
CALLBACKS = {
    "average": lambda folder: EMA(0.9),
    "diagnostics": lambda folder: Diagnostics(X[:5]),
    "schedules": lambda folder: OneCycleLR(2),
    "plateau": lambda folder: ReduceLROnPlateau(),
    "early stopping": lambda folder: EarlyStopping(patience=1),
    "checkpoint": lambda folder: ModelCheckpoint(folder / "best.safetensors"),
}


class Mine(xpdl.SGD):
    def step(self, p, g):
        return (p - self.lr * g,)


def assert_same(ours, theirs):
    assert ours.history.train_loss_list == theirs.history.train_loss_list
    assert ours.history.test_acc_list == theirs.history.test_acc_list
    for name, value in ours.network.state_dict().items():
        np.testing.assert_array_equal(value.get(), theirs.network.state_dict()[name].get(), err_msg=name)
    assert numbers(ours.network.state_dict().values()) == {1}


@pytest.mark.parametrize("device", [1, "cuda:1", "object"])
def test_use(current, device):
    import cupy

    with xpdl.use("cupy", device=cupy.cuda.Device(1) if device == "object" else device) as backend:
        assert backend.device == cupy.cuda.Device(1)
        xp = backend.xp
        made = [
            xpdl.asarray([1.0, 2.0]),
            xpdl.asarray(np.ones(3)),
            xpdl.asarray(cupy.ones(3)),
            xpdl.asarray(cupy.ones(3, "float64").reshape(3, 1)[:, ::-1]),
            # CuPy copies contiguous arrays alone between devices
            *(
                xpdl.asarray(cupy.ones((2, 3, 4), "float32")[index])
                for index in (np.s_[::2], np.s_[:, ::-1], np.s_[..., 1:3])
            ),
            xpdl.asarray(cupy.ones((2, 3, 4)).transpose(0, 2, 1)),
            *(create((2, 3), device=backend.device) for create in (xp.zeros, xp.ones, xp.empty)),
            xp.full((2,), 7.0, device=backend.device),
            xp.arange(4, device=backend.device),
            xp.eye(3, device=backend.device),
            xp.linspace(0, 1, 5, device=backend.device),
            xp.asarray([1, 2], device=backend.device),
        ]
        made += [f(made[0]) for f in (xp.zeros_like, xp.ones_like, xp.empty_like)]
        made += [xp.full_like(made[0], 2.0), xp.asarray(made[0], copy=True), xp.concat([made[0], made[0]])]
        assert numbers(made) == {1}
    assert numbers([xpdl.asarray([1.0], device=1) for _ in (1,) if xpdl.use("cupy")]) == {1}


@pytest.mark.parametrize("device", [2, -1, "cuda:2", "gpu", True, 1.0, "cpu"])
def test_a_device_that_is_none_is_an_error(current, device):
    with pytest.raises(BackendError, match=r"device .* does not work"):
        xpdl.use("cupy", device=device)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_training_is_that_on_another_device(current, tmp_path, options):
    def made():
        return {key: value() if callable(value) else value for key, value in options.items()}

    assert_same(trained(1, tmp_path, **made()), trained(0, tmp_path, **made()))


@pytest.mark.parametrize("callback", CALLBACKS.values(), ids=CALLBACKS)
def test_a_training_with_callbacks_is_that_on_another_device(current, tmp_path, callback):
    (tmp_path / "0").mkdir(), (tmp_path / "1").mkdir()
    ours, theirs = (trained(k, tmp_path, callbacks=[callback(tmp_path / str(k))]) for k in (1, 0))
    assert_same(ours, theirs)


def test_a_checkpoint_goes_on_there(current, tmp_path):
    trained(1, tmp_path, checkpoint=tmp_path / "run")
    with xpdl.use("cupy", device=1):
        going_on = Trainer(network(), X, T, X, T, 3, 5, "adam", {}, verbose=False, seed=0, checkpoint=tmp_path / "run")
    going_on.train()
    with xpdl.use("cupy", device=0):
        whole = Trainer(network(), X, T, X, T, 3, 5, "adam", {}, verbose=False, seed=0)
    whole.train()
    assert_same(going_on, whole)


def test_files_and_moves(current, tmp_path):
    trainer = trained(1, tmp_path)
    net, expected = trainer.network, trainer.network.predict(X)
    assert isinstance(expected, np.ndarray)
    net.save_params(tmp_path / "net.safetensors")
    with xpdl.use("cupy", device=0):
        other = network()
        other.build((2, 8, 8))
    other.load_params(tmp_path / "net.safetensors")
    assert numbers(other.state_dict().values()) == {0}
    np.testing.assert_array_equal(other.predict(X), expected)
    with xpdl.use("cupy", device=1) as backend:
        other.to(backend)
    assert numbers(other.state_dict().values()) == {1}
    np.testing.assert_array_equal(other.predict(X), expected)
    other.to("numpy")
    np.testing.assert_allclose(other.predict(X), expected, rtol=1e-4, atol=1e-5)
    other.load_state_dict(net.state_dict())
    np.testing.assert_allclose(other.predict(X), expected, rtol=1e-4, atol=1e-5)


def test_answers_come_back_to_where_the_rows_are(current, tmp_path):
    import cupy

    net = trained(1, tmp_path).network
    expected = net.predict(X)
    for device in (0, 1):
        with cupy.cuda.Device(device):
            x, t = cupy.asarray(X), cupy.asarray(T)
        scores = net.predict(x)
        assert numbers([scores]) == {device}
        np.testing.assert_array_equal(scores.get(), expected)
        assert net.accuracy(x, t) == net.accuracy(X, T) == np.mean(expected.argmax(axis=1) == T)


def test_steps_of_ones_own(current):
    results = []
    for device in (1, 0):
        with xpdl.use("cupy", device=device) as backend:
            net, optimizer, mixed = network(), Adam(), MixedPrecision("float16")
            net.build((2, 8, 8))
        x, t = backend.asarray(X), backend.asarray(T)
        for _ in range(3):
            optimizer.update(net.params, net.gradient(x, t))
            mixed.update(optimizer, net.params, mixed.gradient(net, x, t))
        mixed.sync(optimizer)
        results.append({name: a.get() for name, a in net.state_dict().items()})
        assert numbers(net.state_dict().values()) == numbers(optimizer.m.values()) == {device}
        state = optimizer.state_dict()
        assert numbers(state["m"].values()) == {device}
    for name, a in results[0].items():
        np.testing.assert_array_equal(a, results[1][name], err_msg=name)


@pytest.mark.parametrize("ahead", [False, True])
def test_batches(current, ahead):
    found = []
    for device in (1, 0):
        backend = xpdl.backends.make_backend("cupy", device)
        for x in (X, backend.asarray(X)):
            batches = Batches(
                x,
                T if x is X else backend.asarray(T),
                5,
                seed=0,
                transform=[augment.Shift(1), lambda x: -x],
                backend=backend,
            )
            arrays = list(Prefetch(batches) if ahead else batches)
            assert numbers(a for batch in arrays for a in batch) == {device}
            found.append(np.concatenate([x.get() for x, t in arrays]))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_rows_read_ahead_are_made_on_the_stream_of_the_training(current, tmp_path):
    """Seen to fail with HOSTCUDA_ASYNC=1, where each stream runs as late as it may."""
    import cupy

    np.save(tmp_path / "x.npy", X)
    rows, found, seen = np.load(tmp_path / "x.npy", mmap_mode="r"), [], set()

    def doubled(x):
        with x.device:
            seen.add(cupy.cuda.get_current_stream().ptr)
        return x * 2.0

    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        seen.clear()
        with xpdl.use("cupy"), stream:
            net = Sequential(Affine(units=5), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
            trainer = Trainer(net, rows, T, X, T, 2, 5, "adam", {}, verbose=False, seed=0, augment=doubled)
            found.append(trainer.train().train_loss_list)
        assert seen == {stream.ptr}
    assert found[0] == found[1]


def test_gradients_are_checked_and_backends_compared(current):
    with xpdl.use("cupy", device=1) as backend:
        net = network()
        net.build((2, 8, 8))
    x, t = backend.asarray(X[:4]), backend.asarray(T[:4])
    assert check_gradients(net, x, t).passed
    rows = compare_backends(net, X[:4], T[:4], backends=(backend, xpdl.backends.make_backend("cupy", 0)))
    assert rows and all(difference == 0.0 for row in rows for difference in row.differences.values())
    f = lambda a: backend.xp.sum(a * a)  # noqa: E731
    W = backend.asarray(RNG.normal(size=(2, 3)), "float64")
    for found in (xpdl.numerical_gradient(f, W), W * 2.0 if current == 1 else backend.xp.multiply(W, 2.0)):
        np.testing.assert_allclose(found.get(), 2 * W.get(), rtol=1e-6)
    assert numbers([xpdl.numerical_gradient(f, W), xpdl.gradient_descent(f, W, step_num=2)]) == {1}


def test_memory_asked_is_that_of_the_device(current):
    backend = xpdl.backends.make_backend("cupy", 1)
    from xpdl.backends import device_memory

    assert device_memory.free_bytes(backend) > 0
    with device_memory.explain_oom(backend, 3):
        backend.asarray(X)


def test_no_array_of_a_harness_backend_is_elsewhere(current):
    backend = Backend(SPECS["cupy:device1"])
    assert numbers([backend.asarray([1.0]), backend.asarray([1.0], "bfloat16"), backend.asarray(2)]) == {1}
