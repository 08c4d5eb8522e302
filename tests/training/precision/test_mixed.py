"""Training in half precision learns as in float32, loses no small gradient or update, and skips steps that overflow."""

import numpy as np
import pytest

import xpdl
from tests.training import runs
from xpdl import (
    SGD,
    Adam,
    AdamW,
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    DTypeError,
    IdentityWithLoss,
    Layer,
    MixedPrecision,
    MultiLayerNet,
    Pooling,
    Relu,
    Residual,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
    load_mini_mnist,
)
from xpdl.backends.namespaces import array_namespace, dtype_name


@pytest.fixture
def dtypes(backend):
    """Names of the parameters' dtype and of the passes': where there is no float16, float64 and float32 stand for them."""
    return ("float32", "float16") if "float16" in backend.spec.dtypes else ("float64", "float32")


of_two_dtypes = pytest.mark.applies(lambda backend: "float16" in backend.dtypes or backend.float64)
computing = pytest.mark.backends("values")
eager = pytest.mark.backends("eager")


def line(start=0.0):
    """``y = W x``, one weight."""
    return Sequential(Affine(np.array([[start]], "float32")), loss=IdentityWithLoss)


def fitted(backend, wide, mixed, *, x, t, optimizer, steps, start=0.0):
    """The model after `steps` on one batch, the mixed precision and the optimizer."""
    with backend.use(wide) as made:
        net = line(start).to(made)
        x, t = made.asarray(x), made.asarray(t)
        with backend.rules():
            for _ in range(steps):
                mixed.update(optimizer, net.params, mixed.gradient(net, x, t))
    mixed.sync(optimizer)
    return net


@of_two_dtypes
@computing
@eager
@pytest.mark.backends("precompiled")
def test_step_reads_nothing_and_gives_what_a_step_in_float32_gives(backend, dtypes):
    wide, narrow = dtypes
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(12, 2, 6, 6)), rng.integers(0, 3, 12)

    def gradients(mixed):
        with backend.use(wide) as made:
            net = Sequential(
                Convolution(filters=4, size=3, pad=1, use_bias=False),
                BatchNormalization(),
                Relu(),
                Pooling(2, 2),
                Residual(Convolution(filters=4, size=3, pad=1), Dropout(0.2)),
                Affine(units=3),
                loss=SoftmaxWithLoss,
                seed=0,
            )
            net.build((2, 6, 6))
            data = made.asarray(x), made.asarray(t)
            adam = Adam()
            with backend.rules():
                for _ in range(2):
                    grads = net.gradient(*data) if mixed is None else mixed.gradient(net, *data)
                    if mixed is None:
                        adam.update(net.params, grads)
                    else:
                        mixed.update(adam, net.params, grads)
        return net, grads

    mixed = MixedPrecision(narrow, scale=2.0**12)
    (net, grads), (exact_net, exact) = gradients(mixed), gradients(None)
    for name, value in {**grads, **net.params, **net.buffers, "loss": net.last_loss}.items():
        assert dtype_name(value.dtype) == wide, name
    assert grads.keys() == exact.keys()
    # parameters have gone through the same two updates, whose size is the learning rate
    for ours, theirs in ((grads, exact), ({"loss": net.last_loss}, {"loss": exact_net.last_loss})):
        for name, value in theirs.items():
            want = backend.to_numpy(value)
            np.testing.assert_allclose(backend.to_numpy(ours[name]), want, atol=0.02 * np.abs(want).max(), err_msg=name)
    for name, value in exact_net.buffers.items():
        np.testing.assert_allclose(backend.to_numpy(net.buffers[name]), backend.to_numpy(value), rtol=2e-2, atol=1e-3)
    assert mixed.skipped_steps == 0 and network_is_whole(net, wide)


def network_is_whole(net, wide):
    return all(dtype_name(value.dtype) == wide for value in net.params.values()) and net.mixed_precision is None


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.backends("numpy", "torch")
@pytest.mark.backends("plain")
@pytest.mark.applies(lambda backend, precision: precision in backend.dtypes)
def test_learns_digits_as_float32_does(backend, precision):
    train, test = load_mini_mnist()

    def accuracy(precision):
        with backend.use("float32"):
            layers = [Affine(units=40), BatchNormalization(), Relu(), Dropout(0.1), Affine(units=10)]
            net = Sequential(*layers, loss=SoftmaxWithLoss, seed=0)
            options = {"epochs": 1, "optimizer": Adam(lr=0.01), "seed": 0, "verbose": False, "precision": precision}
            return Trainer(net, *train, *test, **options).train().test_acc_list[-1]

    assert accuracy(precision) > accuracy(None) - 0.01 > 0.88


@computing
@eager
@pytest.mark.backends("float16")
@pytest.mark.backends("precompiled")
def test_gradients_too_small_for_float16_need_the_scale(backend):
    # (y - t) / N is 2e-8, and the smallest float16 6e-8
    task = {"x": np.ones((50_000, 1)), "t": np.full((50_000, 1), 1e-3), "steps": 5}
    moved = {
        scale: backend.to_numpy(
            fitted(backend, "float32", MixedPrecision(scale=scale), optimizer=SGD(0.1), **task).params["Affine1.W"]
        )
        for scale in (1.0, 2.0**16)
    }
    assert moved[1.0] == 0.0
    np.testing.assert_allclose(moved[2.0**16], 1e-3 * (1 - 0.9**5), rtol=5e-3)


@computing
@eager
@pytest.mark.backends("float16")
@pytest.mark.backends("precompiled")
def test_updates_too_small_for_a_weight_in_float16_add_up(backend):
    task = {"x": np.ones((4, 1)), "t": np.zeros((4, 1)), "steps": 40, "start": 1.0}
    mixed = fitted(backend, "float32", MixedPrecision(scale=8.0), optimizer=SGD(1e-4), **task)
    np.testing.assert_allclose(backend.to_numpy(mixed.params["Affine1.W"]), (1 - 1e-4) ** 40, rtol=1e-5)
    with backend.use("float16") as made:
        net = line(1.0).to(made)
        for _ in range(40):
            SGD(1e-4).update(net.params, net.gradient(made.asarray(task["x"]), made.asarray(task["t"])))
        assert backend.to_numpy(net.params["Affine1.W"]) == 1.0, "each update is lost"


@of_two_dtypes
@computing
@eager
@pytest.mark.parametrize("rule", [SGD, Adam, AdamW])
def test_a_step_that_overflows_is_as_if_it_had_not_been(backend, dtypes, rule):
    wide, narrow = dtypes
    # the weight's gradient is 500, and overflows with all but the last of these scales
    most = 2.0 ** (7 if narrow == "float16" else 119)
    task = {"x": np.ones((2, 1)), "t": np.full((2, 1), -500.0)}
    mixed, optimizer = MixedPrecision(narrow, scale=most * 8), rule(0.1)
    start = backend.to_numpy(fitted(backend, wide, mixed, optimizer=optimizer, steps=3, **task).params["Affine1.W"])
    assert start == 0.0 and (mixed.scale, mixed.skipped_steps, optimizer.iter) == (most, 3, 0)
    ours, theirs = (rule(0.1) for _ in range(2))
    late = MixedPrecision(narrow, scale=most * 8)
    after = fitted(backend, wide, late, optimizer=ours, steps=7, **task)
    begun = MixedPrecision(narrow, scale=most)
    alone = fitted(backend, wide, begun, optimizer=theirs, steps=4, **task)
    assert (late.scale, late.skipped_steps) == (most, 3) and begun.skipped_steps == 0
    assert ours.iter == theirs.iter == 4
    np.testing.assert_array_equal(
        backend.to_numpy(after.params["Affine1.W"]), backend.to_numpy(alone.params["Affine1.W"])
    )
    for kind in rule.state_names:
        np.testing.assert_array_equal(*(backend.to_numpy(getattr(o, kind)["Affine1.W"]) for o in (ours, theirs)))
    assert backend.to_numpy(after.params["Affine1.W"]) != 0.0


@of_two_dtypes
@computing
@eager
def test_the_scale_doubles_after_good_steps_in_a_row(backend, dtypes):
    wide, narrow = dtypes
    task = {"x": np.ones((2, 1)), "t": np.ones((2, 1)), "optimizer": SGD(0.0)}
    for steps, scale in ((2, 4.0), (3, 8.0), (5, 8.0), (6, 16.0)):
        mixed = MixedPrecision(narrow, scale=4.0, growth_interval=3)
        fitted(backend, wide, mixed, steps=steps, **task)
        assert mixed.scale == scale


def test_a_bad_step_begins_the_row_anew():
    mixed = MixedPrecision(scale=4.0, growth_interval=3)
    params, good = {"W": np.zeros(1, "float32")}, {"W": np.ones(1, "float32")}
    scales = []
    for grads in [good, good, {"W": np.array([np.inf], "float32")}, good, good, good, good]:
        mixed.update(SGD(), params, grads)
        scales.append(mixed.scale)
    assert scales == [4.0, 4.0, 2.0, 2.0, 2.0, 4.0, 4.0]


def test_by_default_it_doubles_after_2000_steps():
    mixed = MixedPrecision(scale=4.0)
    mixed.loss_scale.load_state_dict({"scale": 4.0, "good_steps": 1998, "skipped_steps": 0})
    scales = []
    for _ in range(2):
        mixed.update(SGD(), {"W": np.zeros(1, "float32")}, {"W": np.ones(1, "float32")})
        scales.append(mixed.scale)
    assert scales == [4.0, 8.0]


@of_two_dtypes
@computing
@eager
def test_a_trainer_that_reads_losses_subtracts_skipped_steps(backend, dtypes):
    """On a device it is known there alone until then."""
    wide, narrow = dtypes
    mixed = MixedPrecision(narrow, scale={"float16": 2.0**16, "float32": 2.0**127}[narrow])
    ones = np.ones((8, 1))
    with backend.use(wide) as made:
        net = line().to(made)
        trainer = Trainer(net, ones, 9 * ones, ones, ones, 1, 2, SGD(0.0), precision=mixed, verbose=False, seed=0)
        trainer.train()
    assert mixed.skipped_steps > 0 and trainer.optimizer.iter == 4 - mixed.skipped_steps
    assert mixed.scale == mixed.loss_scale.at_start / 2**mixed.skipped_steps


def test_the_scale_has_an_end():
    mixed = MixedPrecision(scale=2.0**31, growth_interval=1)
    for _ in range(4):
        mixed.update(SGD(), {"W": np.zeros(1, "float32")}, {"W": np.zeros(1, "float32")})
    assert mixed.scale == 2.0**32


def test_bfloat16_scales_nothing():
    mixed = MixedPrecision("bfloat16")
    params = {"W": np.zeros(1, "float32")}
    mixed.update(SGD(1.0), params, {"W": np.array([np.inf], "float32")})
    assert not mixed.scales and mixed.scale == 1.0 and params["W"] == -np.inf


def test_weight_decay_of_a_model_is_that_of_its_parameters():
    net = MultiLayerNet(4, [6], 3, weight_decay_lambda=0.5, seed=0)
    x, t = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
    exact = net.gradient(x, t)
    loss = net.last_loss
    grads = MixedPrecision().gradient(net, x, t)
    for name, want in exact.items():
        np.testing.assert_allclose(grads[name], want, atol=2e-3 * np.abs(want).max())
    np.testing.assert_allclose(net.last_loss, loss, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_accumulated_gradients_are_left_out_together(options):
    class Overflow:
        """One batch of the second update gives an infinite gradient."""

        def on_batch_begin(self, trainer, step):
            self.before = {name: value.copy() for name, value in trainer.network.params.items()}

        def on_batch_end(self, trainer, step):
            changed = any((trainer.network.params[name] != value).any() for name, value in self.before.items())
            updates.append(changed)

    updates = []
    run = runs.trainer(epochs=1, mini_batch_size=10, precision="float16", callbacks=[Overflow()], **options)
    gradient = run.network.gradient

    def spoiled(x, t):
        grads = gradient(x, t)
        if run.current_iter == 2:
            for _, owner, key in run.network.named_grads():
                owner[key][...] = np.inf
            return run.network.grads
        return grads

    run.network.gradient = spoiled
    run.train()
    every = options.get("accumulate_grad_batches", 1)
    assert updates == [step % every == 0 and (step - 1) // every != 2 // every for step in range(1, 7)]
    assert run.precision.skipped_steps == 1


class Spoiled(Layer):
    """The identity, whose gradient is not a number."""

    def forward(self, x):
        return x

    def backward(self, dout):
        return dout * float("nan")


def test_gradients_that_no_scale_makes_finite_end_the_run():
    net = Sequential(Affine(units=5), Spoiled(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    with pytest.raises(
        FloatingPointError, match=r"float16, though the loss was multiplied by 1.0 only.*Spoiled1"
    ) as told:
        runs.trainer(net, precision=MixedPrecision(scale=4.0), epochs=9).train()
    assert "step 4" in str(told.value) and network_is_whole(net, "float32")


def test_a_loss_that_is_not_finite_ends_the_run_at_once():
    net = runs.net()
    x = runs.X * np.float32(1e6)  # beyond float16
    trainer = Trainer(net, x, runs.T, x, runs.T, verbose=False, seed=0, precision="float16")
    with pytest.raises(FloatingPointError, match="the loss became nan at step 1: the input itself holds"):
        trainer.train()


class TestCheckpoints:
    def trainer(self, path=None, epochs=4, precision=None, **options):
        # a scale that some steps overflow, and that grows again
        precision = precision or MixedPrecision(scale=2.0**30, growth_interval=2)
        return runs.trainer(precision=precision, checkpoint=path, epochs=epochs, **options)

    @pytest.mark.parametrize("every", [None, 1])
    def test_resumed_run_is_the_same(self, tmp_path, every):
        class Stop(Exception):
            pass

        class At:
            def on_batch_end(self, trainer, step):
                if step == 8:
                    raise Stop

        whole = self.trainer()
        whole.train()
        assert whole.precision.skipped_steps > 3 and whole.optimizer.iter < 12 - 3
        with pytest.raises(Stop):
            self.trainer(tmp_path / "run", checkpoint_every=every, callbacks=[At()]).train()
        resumed = self.trainer(tmp_path / "run")
        resumed.train()
        assert resumed.precision.loss_scale.state_dict() == whole.precision.loss_scale.state_dict()
        assert resumed.history.train_loss_list == whole.history.train_loss_list
        for name, value in runs.weights(whole.network).items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(resumed.network.params.get(name, resumed.network.buffers.get(name)), value)

    @pytest.mark.parametrize("other", [None, MixedPrecision(), MixedPrecision(scale=2.0**30)])
    def test_refused_with_another_setting(self, tmp_path, other):
        self.trainer(tmp_path / "run", epochs=1).train()
        with pytest.raises(
            ValueError, match=r"precision MixedPrecision\('float16', scale=1073741824.0, growth_interval=2\)"
        ):
            runs.trainer(precision=other, checkpoint=tmp_path / "run").train()


class TestErrors:
    def test_dtype(self):
        for dtype in ("float64", "int8", None):
            with pytest.raises(ValueError, match="dtype must be 'float16', 'bfloat16' or 'float32', got"):
                MixedPrecision(dtype)

    @pytest.mark.parametrize("scale", [0.5, 0, -1.0, float("nan"), "1"])
    def test_scale(self, scale):
        with pytest.raises(ValueError, match="scale must be"):
            MixedPrecision(scale=scale)

    def test_parameters_that_are_narrow_already(self):
        with xpdl.use("numpy", dtype="float16"):
            net = runs.net()
            net.build((2,))
        with pytest.raises(DTypeError, match=r'parameters are float16.*xpdl.use\(..., dtype="float32"\)'):
            runs.trainer(net, precision="float16")

    def test_library_without_the_dtype(self):
        with pytest.raises(DTypeError, match="numpy has no dtype bfloat16"):
            runs.trainer(precision="bfloat16")

    def test_network_of_ones_own(self):
        class Net:
            def __init__(self):
                self.params = {}

            def gradient(self, x, t):
                return {}

        with pytest.raises(TypeError, match=r"must be a Sequential.*got Net"):
            runs.trainer(Net(), precision="float16")

    def test_gradient_of_ones_own(self):
        class Net(Sequential):
            def gradient(self, x, t):
                return dict(self.params)

        net = Net(Affine(units=2), loss=SoftmaxWithLoss)
        with pytest.raises(TypeError, match=r"Net\.gradient does not call Sequential's"):
            MixedPrecision().gradient(net, runs.X, runs.T)

    def test_an_error_on_the_way_leaves_the_parameters_in_place(self):
        net = runs.net()
        net.build((2,))
        with pytest.raises(xpdl.ShapeError):
            MixedPrecision().gradient(net, np.ones((3, 5), "float32"), np.zeros(3, int))
        assert network_is_whole(net, "float32")


def test_a_layer_that_keeps_its_dtype_gets_its_own_parameters():
    class Scale(Layer):
        keep_fp32_params = True

        def create_parameters(self, input_shape, make):
            self.params["s"] = make("s", (1,), "zeros") + 1.0

        def forward(self, x):
            seen.append((x.dtype.name, self.params["s"].dtype.name))
            self.x = x
            return array_namespace(x).astype(x * self.params["s"], x.dtype)

        def backward(self, dout):
            self.grads["s"] = (dout * self.x).astype("float32").sum(keepdims=True)[0]
            return dout

    seen = []
    net = Sequential(Affine(units=4), Scale(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    MixedPrecision().gradient(net, runs.X, runs.T)
    assert seen == [("float16", "float32")]


def test_a_hook_after_backward_gets_the_gradients_of_the_parameters():
    told, x, t = [], np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    net = Sequential(Affine(units=5), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    net.build((3,))
    mixed = MixedPrecision("float16")
    mixed.gradient(net, x, t)
    assert net.after_backward is None
    net.after_backward = hook = lambda name, layer: told.append(
        (name, {k: np.array(v) for k, v in layer.grads.items()})
    )
    mixed.gradient(net, x, t)
    assert net.after_backward is hook and [name for name, grads in told if grads] == ["Affine2", "Affine1"]
    for name, grads in told:
        for key, grad in grads.items():
            assert grad.dtype == np.float32
            np.testing.assert_array_equal(grad, net.layers[name].grads[key])
