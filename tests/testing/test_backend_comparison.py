"""Backends compared layer by layer."""

import copy
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl import compare_backends
from xpdl.backends import make_backend
from xpdl.errors import BackendError
from xpdl.layers import Affine, BatchNormalization, Convolution, Dropout, Pooling, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential

X = np.random.default_rng(0).standard_normal((6, 1, 6, 6)).astype(np.float32)
T = np.asarray([0, 1, 2, 0, 1, 2])


def net() -> Sequential:
    block = Residual(Convolution(filters=2, size=3, pad=1, use_bias=False), BatchNormalization(), Dropout(0.5))
    model = Sequential(
        Convolution(filters=2, size=3), Relu(), Pooling(2, 2), block, Affine(units=3), loss=SoftmaxWithLoss, seed=1
    )
    model.build((1, 6, 6))
    return model


def flat() -> Sequential:
    """Without images, for which JAX compiles for seconds."""
    block = Residual(Affine(units=4, use_bias=False), BatchNormalization())
    return Sequential(Affine(units=4), Relu(), block, Dropout(0.5), Affine(units=3), loss=SoftmaxWithLoss, seed=1)


def places(rows: Any) -> list[tuple[str, str]]:
    return [(row.layer, row.what) for row in rows]


@pytest.mark.backends("values")
def test_rounding_is_all_that_differs(backend: Backend) -> None:
    there = make_backend(backend.spec.library, backend.device, "float32")
    rows = compare_backends(flat() if there.name == "jax" else net(), X, T, ["numpy", there])
    (label,) = rows[0].differences
    assert label == ("numpy float32 2" if there.name == "numpy" else there.name)
    assert all(row.differences[label] < 2e-5 for row in rows), rows
    if there.name == "numpy":
        assert all(row.differences[label] == 0.0 for row in rows)


def test_every_layer_is_there_on_both_ways() -> None:
    rows = compare_backends(net(), X, T, ["numpy", "numpy"])
    assert places(rows) == [
        *((layer, "output") for layer in ("Convolution1", "Relu1", "Pooling1")),
        *((f"Residual1.body.{layer}", "output") for layer in ("Convolution1", "BatchNormalization1", "Dropout1")),
        *((layer, "output") for layer in ("Residual1.shortcut.Identity1", "Residual1", "Affine1", "SoftmaxWithLoss")),
        *(("SoftmaxWithLoss", "dx"), ("Affine1", "dW"), ("Affine1", "db"), ("Affine1", "dx")),
        *(("Residual1.body.Dropout1", "dx"), ("Residual1.body.BatchNormalization1", "dgamma")),
        *(("Residual1.body.BatchNormalization1", what) for what in ("dbeta", "dx")),
        *(("Residual1.body.Convolution1", what) for what in ("dW", "dx")),
        *((layer, "dx") for layer in ("Residual1.shortcut.Identity1", "Residual1", "Pooling1", "Relu1")),
        *(("Convolution1", what) for what in ("dW", "db", "dx")),
    ]


class WrongOn64(Relu):
    """A layer with a bug in one dtype only, forward or backward."""

    def __init__(self, way: str, value: float) -> None:
        super().__init__()
        self.way, self.value = way, value

    def _spoilt(self, way: str, y: Any) -> Any:
        return y * self.value if way == self.way and y.dtype == np.float64 else y

    def forward(self, x: Any) -> Any:
        return self._spoilt("forward", super().forward(x))

    def backward(self, dout: Any) -> Any:
        return self._spoilt("backward", super().backward(dout))


@pytest.mark.parametrize(("value", "off"), [(1.25, 0.25), (np.nan, np.nan), (np.inf, np.inf)])
@pytest.mark.parametrize(("way", "place"), [("forward", ("Bad1", "output")), ("backward", ("Bad1", "dx"))])
def test_a_bug_is_first_seen_in_its_layer(way: str, place: tuple[str, str], value: float, off: float) -> None:
    model = Sequential(Affine(units=4), ("Bad1", WrongOn64(way, value)), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    with np.errstate(invalid="ignore"):
        rows = compare_backends(
            model, np.abs(X[:, 0, 0, :]), T, [make_backend("numpy", dtype=d) for d in ("float32", "float64")]
        )
    found = [row.differences["numpy float64 2"] for row in rows]
    first = next(i for i, difference in enumerate(found) if not difference < 1e-5)
    assert places(rows)[first] == place
    # 0 inf is NaN, and relu has zeros
    assert found[first] == pytest.approx(off, rel=1e-5, nan_ok=True) or (value == np.inf and np.isnan(found[first]))


def test_the_table_is_what_is_returned(capsys: pytest.CaptureFixture[str]) -> None:
    rows = compare_backends(net(), X, T, ["numpy", make_backend("numpy", dtype="float64")])
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["layer", "what", "numpy", "float64", "2"] and set(rule) == {"-"}
    for line, row in zip(lines, rows, strict=True):
        layer, what, number = line.split()
        assert (layer, what) == (row.layer, row.what)
        assert float(number) == pytest.approx(row.differences["numpy float64 2"], rel=0.06)


def test_the_model_stays_as_it_is() -> None:
    model = net()
    before = copy.deepcopy(model)
    compare_backends(model, X, T, ["numpy", "numpy"])
    for kind in ("params", "state"):
        for (_, owner, key), (_, old, _) in zip(model.named(kind), before.named(kind), strict=True):
            np.testing.assert_array_equal(owner[key], old[key])
    assert model.grads == {} and model.last_loss is None


def test_a_backend_that_does_not_work_is_named() -> None:
    with pytest.raises(BackendError, match=r"compare_backends: .*nonsense"):
        compare_backends(net(), X, T, ["numpy", "nonsense"])
    with pytest.raises(ValueError, match="at least two"):
        compare_backends(net(), X, T, ["numpy"])
    with pytest.raises(TypeError, match="a model with a loss"):
        compare_backends(Sequential(Relu()), X, T, ["numpy", "numpy"])
    assert xpdl.compare_backends is compare_backends


def test_takes_what_use_returns() -> None:
    handle = xpdl.use("numpy", dtype="float64")
    with handle:  # the comparison leaves the backend as it was
        pass
    named = compare_backends(net(), X, T, ["numpy", make_backend("numpy", dtype="float64")])
    assert compare_backends(net(), X, T, ["numpy", handle]) == named
