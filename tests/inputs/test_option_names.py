"""Options under the names of other libraries: one error with the name, or the place, that they have here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import optimizers, option_names

X, T = np.random.default_rng(0).normal(size=(12, 3)).astype("float32"), np.arange(12) % 2
OPTIMIZERS = [getattr(optimizers, name) for name in optimizers.__all__]
OPTIMIZERS = [one for one in OPTIMIZERS if isinstance(one, type) and issubclass(one, xpdl.Optimizer)]

LAYERS = [one for name in xpdl.__all__ if isinstance(one := getattr(xpdl, name), type) and issubclass(one, xpdl.Layer)]


def net() -> Any:
    return xpdl.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)


def batches() -> Any:
    return xpdl.data.Batches(X, T, 4, seed=0)


def pairs() -> list[Any]:
    return list(batches())


def error_of(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(TypeError) as caught:
        call(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", option_names.OF_TRAINER)
def test_trainer_says_what_an_option_is_called_here(name: str) -> None:
    cure = option_names.OF_TRAINER[name]
    expected = cure if " " in cure else f"it is called {cure}"
    assert error_of(xpdl.Trainer, net(), X, T, **{name: 1}) == f"Trainer: there is no option {name!r}; {expected}"


@pytest.mark.parametrize("rule", OPTIMIZERS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", option_names.OF_OPTIMIZER)
def test_every_optimizer_says_what_an_option_is_called_here(rule: Any, name: str) -> None:
    if name in inspect.signature(rule).parameters:
        assert rule(**{name: 0.5})
        return
    assert error_of(rule, **{name: 1}).startswith(f"{rule.__name__}: there is no option {name!r}; ")
    if rule is not xpdl.Optimizer:
        given = {"optimizer": rule, "optimizer_param": {name: 1}}
        assert error_of(xpdl.Trainer, net(), X, T, **given).startswith(f"{rule.__name__}: there is no option {name!r}")


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_every_layer_and_net_says_what_an_option_is_called_here(kind: Any) -> None:
    known = inspect.signature(kind).parameters
    for name in nonempty(option_names.OF_LAYER.keys() - known.keys()):
        cures = option_names.OF_LAYER[name]
        cure = next((cure for cure in cures if " " in cure or cure in known), "")
        message = error_of(kind, **{name: 1})
        assert message.startswith(f"{kind.__name__}: there is no option {name!r}; "), message
        assert message.endswith(f"it is called {cure}" if cure in known else cure), message


@pytest.mark.parametrize(
    ("kind", "name", "cure"),
    [
        (xpdl.Affine, "out_features", "it is called units"),
        (xpdl.Convolution, "out_channels", "it is called filters"),
        (xpdl.Convolution, "kernel_size", "it is called size"),
        (xpdl.Pooling, "padding", "it is called pad"),
        (xpdl.Dropout, "p", "it is called dropout_ratio"),
        (xpdl.LSTM, "hidden_size", "it is called units"),
        (xpdl.LSTM, "batch_first", "rows are the first axis of every input; leave it out"),
        (xpdl.GRU, "num_layers", "a layer is one; put several in a row"),
        (xpdl.Embedding, "num_embeddings", "it is called count"),
        (xpdl.Embedding, "embedding_dim", "it is called units"),
        (xpdl.MultiHeadAttention, "num_heads", "it is called heads"),
        (xpdl.SoftmaxWithLoss, "ignore_index", "it is called ignore_label"),
        (xpdl.GPT, "n_layer", "it is called depth"),
        (xpdl.GPT, "block_size", "it is called context"),
        (xpdl.RnnLm, "dropout", "it is called dropout_ratio"),
        (xpdl.Sequential, "lr", "it belongs to the training: xpdl.Trainer(net, x, t, optimizer=xpdl.Adam(lr=0.001))"),
        (xpdl.Relu, "slope", "there are none"),
        (xpdl.Affine, "unit", "the nearest is units"),
    ],
)
def test_layers_and_nets_by_the_names_of_other_libraries(kind: Any, name: str, cure: str) -> None:
    assert error_of(kind, **{name: 1}) == f"{kind.__name__}: there is no option {name!r}; {cure}"


def test_layers_of_ones_own_have_the_errors_and_options_that_they_pass_on() -> None:
    class Mapped(xpdl.Affine):
        def __init__(self, size: int, **others: Any) -> None:
            super().__init__(units=size, **others)

    class Scaled(xpdl.Layer):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

    assert Mapped(3, use_bias=False).units == 3
    assert error_of(Mapped, 3, bias=True) == "Mapped: there is no option 'bias'; it is called use_bias"
    assert error_of(Scaled, faktor=1) == "Scaled: there is no option 'faktor'; the nearest is factor"


@pytest.mark.parametrize(
    ("cures", "owners"),
    [(option_names.OF_TRAINER, [xpdl.Trainer]), (option_names.OF_OPTIMIZER, [xpdl.Adam, xpdl.Optimizer])],
)
def test_tables_name_options_that_there_are(cures: Any, owners: Any) -> None:
    known = {name for owner in owners for name in inspect.signature(owner).parameters}
    assert not known & cures.keys()
    assert {cure for cure in cures.values() if " " not in cure} <= known


@pytest.mark.parametrize("name", option_names.OF_LAYER)
def test_each_cure_of_layers_is_an_option_of_one(name: str) -> None:
    words = {cure for cure in option_names.OF_LAYER[name] if " " not in cure}
    assert words <= {one for kind in LAYERS for one in inspect.signature(kind).parameters}


def test_examples_in_the_cures_are_right() -> None:
    of_layers = [cure for cures in option_names.OF_LAYER.values() for cure in cures]
    cures = " ".join([*option_names.OF_TRAINER.values(), *option_names.OF_OPTIMIZER.values(), *of_layers])
    for name in nonempty(re.findall(r"xpdl\.(\w+)", cures)):
        assert hasattr(xpdl, name)
    for example in nonempty(re.findall(r"xpdl\.[A-Z]\w+\([^().]*(?:\.\d+)?\)", cures)):
        assert eval(example)


@pytest.mark.parametrize(
    ("call", "name", "cure"),
    [
        (lambda **options: xpdl.Trainer(net(), X, T, **options), "epoch", "the nearest is epochs"),
        (lambda **options: xpdl.Trainer(net(), X, T, **options), "qqq", "there are network, x_train, t_train, "),
        (xpdl.SGD, "learnin", "there are lr, weight_decay, decay, lr_groups, max_norm, clip_norm"),
        (xpdl.Momentum, "moment", "the nearest is momentum"),
    ],
)
def test_other_options_get_the_nearest_name_or_all_of_them(call: Any, name: str, cure: str) -> None:
    assert f"there is no option {name!r}; {cure}" in error_of(call, **{name: 1})


@pytest.mark.parametrize(
    ("x", "t"),
    [
        (batches, batches),
        (batches, lambda: T),
        (lambda: iter(pairs()), lambda: T),
        (lambda: batches, batches),
    ],
    ids=["two sources", "labels", "an iterator", "a function"],
)
@pytest.mark.parametrize("which", ["train", "test"])
def test_batches_have_their_targets(x: Any, t: Any, which: str) -> None:
    given = {"x_train": X, "t_train": T, f"x_{which}": x(), f"t_{which}": t()}
    cure = {"train": "pass test batches as x_test=...", "test": "leave t_test out"}[which]
    expected = rf"Trainer: x_{which} gives batches \(x, t\) with their targets, got t_{which} too, a \w+; {cure}"
    assert re.fullmatch(expected, error_of(xpdl.Trainer, net(), **given))


def test_a_list_of_batches_twice_is_refused() -> None:
    twice = pairs()
    assert "x_train gives batches (x, t) with their targets" in error_of(xpdl.Trainer, net(), twice, twice)
    rows = [list(row) for row in X]  # as for an autoencoder
    same = xpdl.Sequential(xpdl.Affine(units=3), loss=xpdl.IdentityWithLoss)
    assert xpdl.Trainer(same, rows, rows).iter_per_epoch == 1


@pytest.mark.parametrize("source", [batches, pairs, lambda: batches], ids=["Batches", "list", "function"])
def test_the_size_of_batches_is_theirs(source: Any) -> None:
    assert "Trainer: mini_batch_size needs rows, and x_train gives batches; make them so" in error_of(
        xpdl.Trainer, net(), source(), mini_batch_size=4
    )


def test_mini_batches_have_100_rows_by_default() -> None:
    rows = np.zeros((250, 3), "float32")
    assert xpdl.Trainer(net(), rows, np.zeros(250, int)).iter_per_epoch == 3
