"""Compiled steps on JAX: as eager ones, traced once; eager with one reason where they cannot be."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.optimizers.roster import Rule, each_rule
from xpdl import (
    SGD,
    Adam,
    AdamW,
    Affine,
    BatchNormalization,
    Convolution,
    CosineLR,
    Dropout,
    Layer,
    Momentum,
    Pooling,
    Relu,
    Residual,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
)
from xpdl.backends import Backend
from xpdl.backends.graphs import is_traced
from xpdl.models.compiled_step import CompiledStep

pytestmark = pytest.mark.needs("jax")
ROWS, STEPS = 6, 20


def images(dtype: str = "float64", rows: int = ROWS, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    with xpdl.use("jax", dtype=dtype):
        return xpdl.asarray(rng.normal(size=(rows, 1, 6, 6))), xpdl.asarray(rng.integers(0, 3, rows))


def net(*more: Any, dtype: str = "float64", **options: Any) -> Sequential:
    """Layers with every kind of state, and no parameter whose gradient is rounding alone."""
    layers = [
        Convolution(filters=3, size=3, pad=1, use_bias=False),
        BatchNormalization(),
        Relu(),
        Residual(Convolution(filters=3, size=3, pad=1, use_bias=False), BatchNormalization()),
        Pooling(2, 2),
        Dropout(0.3),
        *more,
        Affine(units=3),
    ]
    made = Sequential(*layers, loss=options.pop("loss", SoftmaxWithLoss), seed=0, **options)
    with xpdl.use("jax", dtype=dtype):
        made.build((1, 6, 6))
    return made


def eager_step(network: Sequential, optimizer: Any, *batch: Any) -> float:
    optimizer.update(network.params, network.gradient(*batch))
    return float(network.last_loss)


def both(
    make: Callable[[], Any],
    *,
    network: Callable[..., Sequential] = net,
    change: Callable[[Any, int], None] = lambda optimizer, step: None,
    batches: Any = None,
) -> CompiledStep:
    """Make the steps compiled and eagerly, and compare losses, parameters, state and slot variables after them."""
    ours, theirs, optimizers = network(), network(), (make(), make())
    compiled = ours.compiled_step(optimizers[0])
    for number in range(STEPS):
        batch = (batches or (lambda number: images(seed=number)))(number)
        for optimizer in optimizers:
            change(optimizer, number)
        loss = compiled(*batch)
        np.testing.assert_allclose(float(loss), eager_step(theirs, optimizers[1], *batch), rtol=1e-9)
    assert optimizers[0].iter == optimizers[1].iter == STEPS
    assert_alike(ours, theirs)
    for kind in optimizers[0].state_names:
        for name, array in nonempty(getattr(optimizers[0], kind).items()):
            np.testing.assert_allclose(array, getattr(optimizers[1], kind)[name], rtol=1e-7, atol=1e-12)
    return compiled


def test_makes_the_parameters_of_a_network_that_has_none() -> None:
    x, t = images("float32")
    ours, theirs = (Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0) for _ in range(2))
    optimizers = SGD(lr=0.1), SGD(lr=0.1)
    with xpdl.use("jax"):
        step = ours.compiled_step(optimizers[0])
        theirs.build(x.shape[1:])
    for _ in range(3):
        loss = step(x, t)
        np.testing.assert_allclose(float(loss), eager_step(theirs, optimizers[1], x, t), rtol=1e-5)
    assert ours.built and step.compilations == 1
    assert_alike(ours, theirs, 1e-4)


def assert_alike(ours: Sequential, theirs: Sequential, rtol: float = 1e-7) -> None:
    for (path, owner, key), (_, other, _) in nonempty(zip(_entries(ours), _entries(theirs), strict=True)):
        np.testing.assert_allclose(owner[key], other[key], rtol=rtol, atol=1e-10, err_msg=path)


def _entries(network: Sequential) -> list[Any]:
    return [*network.named_params(), *network.named_state()]


def traces(compiled: Any) -> int:
    """The times that JAX traced the steps that are in use."""
    return sum(int(step.compiled.traces) for step in compiled._recorded.values())


@pytest.mark.quick(lambda rule: rule.id == "AdamW")
@each_rule
def test_every_optimizer_steps_as_eagerly_and_is_traced_once(rule: Rule) -> None:
    compiled = both(rule.make)
    assert (compiled.compilations, traces(compiled), compiled.problem) == (1, 1, None)


OPTIONS: dict[str, Callable[[], Any]] = {
    "clip_norm": lambda: SGD(0.1, clip_norm=0.1),
    "max_norm": lambda: Adam(0.01, max_norm=0.2),
    "weight_decay": lambda: Momentum(0.01, weight_decay={"l1": 1e-3, "l2": 1e-2}),
    "lr_groups": lambda: AdamW(0.01, weight_decay=0.1, decay="weights", lr_groups={"Affine*": 0.1, "*.gamma": 0.0}),
}


@pytest.mark.quick(lambda option: option == "lr_groups")
@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_the_update(option: str) -> None:
    assert traces(both(OPTIONS[option])) == 1


def test_learning_rate_is_an_argument_also_from_zero_on() -> None:
    def schedule(optimizer: Any, step: int) -> None:
        optimizer.lr = 0.01 * step / STEPS

    compiled = both(OPTIONS["lr_groups"], change=schedule)
    assert (compiled.compilations, traces(compiled)) == (1, 1)


@pytest.mark.exhaustive
def test_another_number_of_the_rule_compiles_anew() -> None:
    def schedule(optimizer: Any, step: int) -> None:
        optimizer.momentum = 0.9 if step < 10 else 0.5

    assert both(Momentum, change=schedule).compilations == 2


@pytest.mark.exhaustive
def test_weights_of_classes_and_rows_and_smoothing() -> None:
    def weighted() -> Sequential:
        return net(loss=SoftmaxWithLoss(class_weights=[1.0, 2.0, 0.5], label_smoothing=0.1))

    def batch(number: int) -> Any:
        with xpdl.use("jax", dtype="float64"):
            return *images(seed=number), xpdl.asarray(np.random.default_rng(number).random(ROWS))

    assert traces(both(Adam, network=weighted, batches=batch)) == 1


@pytest.mark.exhaustive
def test_batches_of_other_sizes_are_made_eagerly_in_between() -> None:
    """Statistics count a smaller batch, and the step after a larger one, in proportion to their rows."""
    sizes = [ROWS, ROWS, 2, ROWS, 9, ROWS, ROWS]
    compiled = both(SGD, batches=lambda number: images(rows=sizes[number % len(sizes)], seed=number))
    assert (compiled.compilations, traces(compiled), compiled.problem) == (1, 1, None)


def test_nothing_traced_is_left_in_layers_and_optimizer() -> None:
    network, optimizer = net(), Adam()
    compiled = network.compiled_step(optimizer)
    before = {id(one): dict(vars(one)) for one in network.tree()}
    loss = compiled(*images())
    values = [value for one in (*network.tree(), network.last_layer, optimizer) for value in vars(one).values()]
    inside = [
        item for value in values if isinstance(value, (dict, tuple, list)) for item in dict(enumerate(value)).values()
    ]
    inside += [item for value in values if isinstance(value, dict) for item in value.values()]
    assert inside and not any(map(is_traced, (*values, *inside)))
    assert network.last_loss is loss
    assert "scalars" not in vars(optimizer)
    for one in nonempty(network.tree()):
        assert vars(one).keys() == before[id(one)].keys()


def test_arrays_of_others_are_copied_and_replaced_ones_deleted() -> None:
    with xpdl.use("jax", dtype="float64"):
        W, x = xpdl.asarray(np.ones((4, 3))), xpdl.asarray(np.ones((2, 4)))
        t = xpdl.asarray([0, 2])
    network = Sequential(Affine(W), loss=SoftmaxWithLoss)
    compiled = network.compiled_step(SGD(0.1))
    compiled(x, t)
    assert W.tolist() == [[1.0] * 3] * 4
    mine = network.params["Affine1.W"]
    compiled(x, t)
    assert mine.is_deleted() and not x.is_deleted()
    network.params["Affine1.W"] = W
    compiled(x, t)
    assert W.tolist() == [[1.0] * 3] * 4


class Reading(Layer):
    """Looks at a value."""

    def forward(self, x: Any) -> Any:
        self.positive = bool(x[0, 0] > 0)
        return x

    def backward(self, dout: Any) -> Any:
        return dout


class Counting(Layer):
    """Counts its calls where nobody expects it."""

    def __init__(self) -> None:
        super().__init__()
        self.state["calls"] = 0

    def forward(self, x: Any) -> Any:
        self.state["calls"] += 1
        return x * (1.0 + self.state["calls"])

    def backward(self, dout: Any) -> Any:
        return dout * (1.0 + self.state["calls"])


@pytest.mark.parametrize(
    ("layer", "reason"), [(Reading, "TracerBoolConversionError"), (Counting, "a layer counts 'calls' on the host")]
)
def test_what_cannot_be_traced_is_one_reason_and_eager_steps(layer: type[Layer], reason: str) -> None:
    def network() -> Sequential:
        return net(xpdl.Flatten(), layer())

    with pytest.warns(UserWarning, match=f"cannot be compiled, and all are made eagerly: .*{reason}") as warned:
        compiled = both(Momentum, network=network)
    assert len(warned) == 1 and reason in str(compiled.problem)


def test_shapes_that_change_at_every_step_are_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpdl.models.compiled_step._MOST_TIMES", 2)
    network = Sequential(
        Convolution(filters=2, size=3), xpdl.GlobalAveragePooling(), Affine(units=3), loss=SoftmaxWithLoss
    )
    rng = np.random.default_rng(0)
    with xpdl.use("jax"):
        compiled, t = network.compiled_step(SGD()), xpdl.asarray([0, 1])
        with pytest.warns(UserWarning, match="was compiled 2 times, for other shapes or settings each time") as warned:
            for size in range(3, 7):
                assert np.isfinite(compiled(xpdl.asarray(rng.normal(size=(2, 1, size, size))), t))
    assert len(warned) == 1


def test_errors_of_arguments_are_those_of_an_eager_step() -> None:
    network = net()
    compiled = network.compiled_step(Adam())
    x, t = images()
    with pytest.raises(xpdl.ShapeError, match="t, integer labels"):
        compiled(x, t[:-1])
    assert compiled.problem is None
    assert float(compiled(x, t)) == pytest.approx(eager_step(net(), Adam(), x, t))


@pytest.mark.backends("numpy", "torch", "strict:nosync")
@pytest.mark.skip_backend("meta", reason="has no values")
def test_other_libraries_say_where_steps_are_compiled(backend: Any) -> None:
    with backend.use():
        network = Sequential(Affine(units=2), loss=SoftmaxWithLoss)
        network.build((3,))
        with pytest.raises(xpdl.BackendError, match=r"compiled_step: steps are compiled with CuPy .* and with JAX"):
            network.compiled_step(Adam())


def test_step_of_ones_own_is_refused() -> None:
    class Own(SGD):
        def step(self, p: Any, g: Any, *state: Any) -> Any:
            return (p - self.lr * g,)

    with pytest.raises(TypeError, match="compiled_step needs an optimizer with a rule; Own has a step of its own"):
        net().compiled_step(Own())


def test_model_without_a_loss_is_refused() -> None:
    with pytest.raises(TypeError, match="has no loss"):
        Sequential(Affine(units=2)).compiled_step(SGD())


def trainer(compiles: bool, dtype: str = "float64", **options: Any) -> Trainer:
    """Two full batches an epoch, and one of three rows."""
    x, t = (np.asarray(a) for a in images(dtype, rows=15))
    given = {"callbacks": [CosineLR()], "seed": 0, "verbose": False, "compile": compiles, **options}
    return Trainer(net(dtype=dtype), x, t, epochs=4, mini_batch_size=ROWS, optimizer="adam", **given)


def test_trainer_trains_as_eagerly() -> None:
    ours, theirs = trainer(True), trainer(False)
    ours.train()
    theirs.train()
    np.testing.assert_allclose(ours.history.train_loss_list, theirs.history.train_loss_list, rtol=1e-9)
    np.testing.assert_allclose(ours.history.epoch_loss_list, theirs.history.epoch_loss_list, rtol=1e-9)
    assert_alike(ours.network, theirs.network)
    assert (ours.step.compilations, traces(ours.step), ours.step.problem) == (1, 1, None)
    assert ours.optimizer.iter == 12


def test_steps_whose_losses_are_read_are_eager_and_nan_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpdl.training.step.STEPS_BETWEEN_READS", 3)
    ours = trainer(True, callbacks=[])
    launches: list[int] = []
    replay = ours.step.replay
    monkeypatch.setattr(ours.step, "replay", lambda *batch, **last: launches.append(1) or replay(*batch, **last))
    ours.train()
    assert len(launches) == 8
    ours.optimizer.lr = 1e300
    with pytest.raises(FloatingPointError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours.train(epochs=3)


@pytest.mark.exhaustive
def test_training_goes_on_from_a_checkpoint_bitwise(tmp_path: Any) -> None:
    class Stop(xpdl.Callback):
        def on_batch_end(self, trainer: Any, step: int) -> None:
            if step == 7:
                raise RuntimeError("stopped")

    whole = trainer(True)
    whole.train()
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 2}
    with pytest.raises(RuntimeError, match="stopped"):
        trainer(True, **options, callbacks=[CosineLR(), Stop()]).train()
    resumed = trainer(True, **options)
    resumed.train()
    assert resumed.history.train_loss_list == whole.history.train_loss_list
    for name, array in nonempty(whole.network.state_dict().items()):
        np.testing.assert_array_equal(array, resumed.network.state_dict()[name], err_msg=name)


def test_copies_are_compiled_by_themselves() -> None:
    ours = trainer(True)
    ours.train()
    copied = copy.deepcopy(ours)
    assert not copied.step._recorded
    for one in (ours, copied):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # CosineLR spans the longer training
            one.train(epochs=1)
    assert ours.history.train_loss_list == copied.history.train_loss_list
    assert isinstance(copied.backend, Backend)
