"""Rows of a batch do not see each other, and their order does not matter, in every layer that has no batch statistics."""

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given
from hypothesis import strategies as st

from tests.layers.table import FIRST, ROWS
from xpdl import layers

NODES = {"AddLayer", "MulLayer"}
LOSSES = {row.cls.__name__ for row in ROWS if issubclass(row.cls, layers.LossLayer)}
ROWS_OF = {row.cls.__name__: row for row in ROWS if row.cls.__name__ not in NODES | LOSSES}
SEEDS = st.integers(0, 2**32 - 1)


def made(name, seed, rows):
    """A layer in evaluation and a batch of so many rows of the shape that the table has for it."""
    row = ROWS_OF[name]
    layer = row.make({**row.params, **row.constants}).eval()
    shape = row.inputs[0].shape[1:]
    rng = np.random.default_rng(seed)
    return layer, rng.integers(0, layer.count, (rows, *shape)) if layer.takes_ids else rng.standard_normal(
        (rows, *shape)
    )


def dx_of(layer, dout):
    """The gradient of the one input; layers of several inputs give a tuple, and ids have none."""
    dx = layer.backward(dout)
    if layer.takes_ids:
        return np.zeros((len(dout), 0))
    return dx[0] if isinstance(dx, tuple) else dx


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_every_layer_is_driven():
    assert {row.cls.__name__ for row in FIRST} == set(ROWS_OF) | NODES | LOSSES


@pytest.mark.parametrize("name", sorted(ROWS_OF))
@given(SEEDS, st.integers(1, 5))
def test_batch_is_its_rows(name, seed, rows):
    layer, x = made(name, seed, rows)
    one_by_one = [layer.forward(x[i : i + 1]) for i in range(rows)]
    close(layer.forward(x), np.concatenate(one_by_one))


@pytest.mark.parametrize("name", sorted(ROWS_OF))
@given(SEEDS, st.integers(1, 5))
def test_gradients_of_a_batch_are_those_of_its_rows(name, seed, rows):
    layer, x = made(name, seed, rows)
    dout = np.random.default_rng(seed + 1).standard_normal(layer.forward(x).shape)
    dx = dx_of(layer, dout)
    together = {path: owner[key] for path, owner, key in layer.named_grads()}
    parts, sums = [], dict.fromkeys(together, 0.0)
    for i in range(rows):
        layer.forward(x[i : i + 1])
        parts.append(dx_of(layer, dout[i : i + 1]))
        for path, owner, key in layer.named_grads():
            sums[path] = sums[path] + owner[key]
    close(dx, np.concatenate(parts))
    for path, gradient in together.items():
        close(gradient, sums[path])


@pytest.mark.parametrize("name", sorted(ROWS_OF))
@given(SEEDS, st.permutations(range(4)))
def test_order_of_rows_goes_through(name, seed, order):
    layer, x = made(name, seed, 4)
    close(layer.forward(x)[order], layer.forward(x[order]))


@given(SEEDS, st.permutations(range(4)))
def test_order_of_rows_goes_through_batch_statistics(seed, order):
    x = np.random.default_rng(seed).standard_normal((4, 3, 2, 2))
    close(layers.BatchNormalization().forward(x)[order], layers.BatchNormalization().forward(x[order]))


@pytest.mark.parametrize("name", sorted(LOSSES))
@given(SEEDS, st.permutations(range(5)))
def test_loss_does_not_depend_on_the_order_of_rows(name, seed, order):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((5, 4)), rng.random((5, 4))
    loss = getattr(layers, name)()
    close(loss.forward(x, t), loss.forward(x[order], t[order]))


@pytest.mark.parametrize("name", sorted(LOSSES))
@given(SEEDS, st.integers(1, 4))
def test_loss_is_the_mean_over_rows(name, seed, rows):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((rows, 4)), rng.random((rows, 4))
    loss = getattr(layers, name)()
    close(loss.forward(x, t), np.mean([loss.forward(x[i : i + 1], t[i : i + 1]) for i in range(rows)]))
