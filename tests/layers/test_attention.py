"""Attention and positions, beyond the values and gradients of the table: masks, memory, training."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import Affine, Embedding, LearnedPositions, MultiHeadAttention, Residual, Sequential, SoftmaxWithLoss
from xpdl.backends.cpu import buffer_pool, workspace
from xpdl.errors import DTypeError, MixedArraysError, ShapeError

X = np.random.default_rng(0).standard_normal((2, 6, 8))


def built(*args: Any, size: int = 8, dtype: str = "float64", **options: Any) -> Any:
    layer = MultiHeadAttention(*args, **options)
    layer.build((None, 6, size), backend=xpdl.backends.make_backend("numpy", None, dtype))
    return layer


def test_a_causal_position_sees_nothing_later() -> None:
    layer, later = built(2, True, rotary=True), np.array(X)
    later[:, 4:] += 1.0
    np.testing.assert_array_equal(layer.forward(X)[:, :4], layer.forward(later)[:, :4])
    y = layer.forward(X)
    dx = layer.backward(np.where(np.arange(6)[:, None] < 4, np.cos(y), 0.0))
    assert (dx[:, 4:] == 0).all() and (dx[:, :4] != 0).any()


def test_padding_is_seen_by_nobody() -> None:
    layer, mask = built(2), np.arange(6) < np.array([[4], [6]])
    y = layer.forward(X, mask=mask)
    np.testing.assert_allclose(y[:1, :4], layer.forward(X[:1, :4]), rtol=1e-10)
    layer.forward(X, mask=mask)
    dx = layer.backward(np.where(mask[:, :, None], np.cos(y), 0.0))
    assert (dx[0, 4:] == 0).all()


def test_keys_that_nobody_may_see_give_the_bias_alone() -> None:
    layer = built(2)
    layer.bo[...] = np.arange(8.0)
    y = layer.forward(X, mask=np.zeros((2, 6), bool))
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(8.0), X.shape))
    np.testing.assert_array_equal(layer.backward(np.ones_like(y)), np.zeros_like(X))


def test_without_rotation_a_bias_of_keys_changes_nothing() -> None:
    layer = built(2)
    y = layer.forward(X)
    layer.backward(np.cos(y))
    np.testing.assert_allclose(layer.dbk, np.zeros(8), atol=1e-12)
    layer.bk[...] = 3.0
    np.testing.assert_allclose(layer.forward(X), y, rtol=1e-9)


def test_rotated_scores_depend_on_distances_alone() -> None:
    layer = built(2, rotary=True)
    pair = np.random.default_rng(1).standard_normal((1, 2, 8))
    padded = np.concatenate([np.zeros((1, 3, 8)), pair], axis=1)
    shifted = layer.forward(padded, mask=np.array([[False] * 3 + [True] * 2]))
    np.testing.assert_allclose(shifted[:, 3:], layer.forward(pair), rtol=1e-9)


def peak(length: int, backward: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that a pass takes at most beyond its input, by tracemalloc."""
    layer, x = built(2, True, size=16, dtype="float32"), np.ones((1, length, 16), np.float32)
    layer.forward(x[:, :300])  # what is made once
    # else memory that another test left would not count
    buffer_pool.clear()
    monkeypatch.setattr(workspace, "_kept", workspace._Kept())
    tracemalloc.start()
    y = layer.forward(x)
    if backward:
        layer.backward(y)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("backward", [False, True])
def test_memory_is_linear_in_the_length(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,096 positions take at most twice what 2,048 do; all scores of two heads would be 128 MiB."""
    short, long = (peak(length, backward, monkeypatch) for length in (2048, 4096))
    assert long <= 2.05 * short
    assert long < 16 * 2**20


def test_wrong_inputs_are_named() -> None:
    layer = built(2)
    with pytest.raises(ShapeError, match=r"context must have shape \(2, S, 8\) beside x \(2, 6, 8\), got \(2, 3, 4\)"):
        layer.forward(X, np.ones((2, 3, 4)))
    with pytest.raises(DTypeError, match="context: expected a floating array"):
        layer.forward(X, np.ones((2, 3, 8), int))
    with pytest.raises(ShapeError, match=r"mask, one for each key, must have shape \(2, 6\), got \(2, 5\)"):
        layer.forward(X, mask=np.ones((2, 5), bool))
    with pytest.raises(DTypeError, match="mask must be booleans, got int64; pass mask != 0"):
        layer.forward(X, mask=np.ones((2, 6), int))
    with pytest.raises(ShapeError, match="8 values cannot be cut into 3 heads; choose other heads"):
        MultiHeadAttention(3).build((6, 8))
    with pytest.raises(ShapeError, match="cut into 8 heads of an even size, which rotary=True needs"):
        MultiHeadAttention(8, rotary=True).build((6, 8))
    with pytest.raises(ShapeError, match="expected at least one position"):
        layer.forward(X[:, :0])


@pytest.mark.needs("torch")
def test_a_context_of_another_library_is_refused(torch: Any) -> None:
    with pytest.raises(MixedArraysError, match="context: arrays of numpy and torch"):
        built(2).forward(X, torch.tensor(X))


def test_longer_sequences_than_there_are_positions_are_refused() -> None:
    layer = LearnedPositions(4)
    assert layer.build((3, 2)) == (3, 2)
    with pytest.raises(ShapeError, match=r"sequences \(N, T, 2\) of at most 4 positions, got rows of shape \(5, 2\)"):
        layer.output_shape((5, 2))


@pytest.mark.exhaustive
def test_learns_to_copy_the_first_word_to_all_positions() -> None:
    """Nothing but attention looks at another position."""
    ids = np.random.default_rng(0).integers(0, 4, (48, 5))
    t = np.repeat(ids[:, :1], 5, axis=1)
    net = Sequential(
        Embedding(4, 8, init=0.5),
        LearnedPositions(5, init=0.5),
        Residual(MultiHeadAttention(2, True)),
        Affine(units=4, axis=-1),
        loss=SoftmaxWithLoss,
        seed=0,
    )
    options: Any = {"optimizer": "Adam", "optimizer_param": {"lr": 0.02}, "verbose": False, "seed": 0}
    history = xpdl.Trainer(net, ids, t, ids, t, epochs=40, mini_batch_size=8, **options).train()
    assert history.test_acc_list[-1] == 1.0
    report = xpdl.check_gradients(net, ids[:3], t[:3])
    assert report.passed
