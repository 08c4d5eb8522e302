"""Batch normalization over the rows of several ranks, beside central differences over the whole batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.backends.namespaces import array_namespace
from xpdl.ops.normalization import normalize_of_ranks_backward, statistics_of_ranks

EPS = 1e-3
SPLITS = [(0, 2), (2, 3), (3, 7)]


class Ranks:
    """Sums of the arrays of threads that stand for ranks, added in the order of the ranks."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.given: list[Any] = [None] * size

    def reduce(self, rank: int, arrays: list[Any]) -> list[Any]:
        self.barrier.wait(10)
        self.given[rank] = arrays
        self.barrier.wait(10)
        return [sum(parts[1:], start=parts[0]) for parts in zip(*self.given, strict=True)]


def loss(x: Any, gamma: Any, dy: Any) -> float:
    """The sum of outputs, each times `dy`, in plain NumPy."""
    axes = (0, *range(2, x.ndim))
    sizes = (1, -1, *[1] * (x.ndim - 2))
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return float((dy * gamma.reshape(sizes) * (x - mean) / np.sqrt(var + EPS)).sum())


def differences(function: Any, at: Any) -> Any:
    """The gradient by central differences, value by value."""
    found = np.empty_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-5
        found[place] = (function(at + step) - function(at - step)) / 2e-5
    return found


@pytest.mark.backends("numpy", "strict", "torch", "jax", "cupy")
@pytest.mark.skip_backend("meta", reason="has no values")
@pytest.mark.skip_backend("nosync", reason="the threads of ranks read on the host")
@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 2, 2)], ids=["features", "channels"])
def test_gradients_of_ranks_are_those_of_the_whole_batch(backend: Backend, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    x, dy, gamma = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=3)
    ranks = Ranks(len(SPLITS))

    def one(rank: int) -> list[Any]:
        rows = slice(*SPLITS[rank])
        own, upstream, scale = (backend.asarray(a) for a in (x[rows], dy[rows], gamma))

        def reduce(arrays: list[Any]) -> list[Any]:
            return ranks.reduce(rank, arrays)

        mean, var = statistics_of_ranks(own, scale, len(x), False, reduce)
        assert array_namespace(mean) is array_namespace(own)
        found = normalize_of_ranks_backward(upstream, own, scale, mean, var, EPS, len(x), False, reduce)
        return [backend.to_numpy(a) for a in (*found, mean, var)]

    with ThreadPoolExecutor(len(SPLITS)) as pool:
        results = list(pool.map(one, range(len(SPLITS))))
    axes = (0, *range(2, x.ndim))
    for *_, mean, var in results:
        np.testing.assert_allclose(mean, x.mean(axis=axes), atol=1e-12)
        np.testing.assert_allclose(var, x.var(axis=axes), atol=1e-12)
    dx = np.concatenate([result[0] for result in results])
    np.testing.assert_allclose(dx, differences(lambda at: loss(at, gamma, dy), x), atol=1e-7)
    dgamma = sum(result[1] for result in results)
    np.testing.assert_allclose(dgamma, differences(lambda at: loss(x, at, dy), gamma), atol=1e-7)
    np.testing.assert_allclose(sum(result[2] for result in results), dy.sum(axis=axes), atol=1e-12)
