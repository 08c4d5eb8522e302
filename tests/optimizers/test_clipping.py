"""Clipping by the norm of all gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.harness import Backend, nonempty
from tests.optimizers.roster import moved, sample
from xpdl.optimizers import SGD, Momentum


@pytest.mark.backends("eager")
def test_max_norm_clips_every_value_after_the_step(backend: Backend) -> None:
    params = {"p": backend.asarray([0.9, -0.9, 0.0, 5.0])}
    with backend.rules():
        SGD(lr=1.0, max_norm=1.0).update(params, {"p": backend.asarray([-0.5, 0.5, 0.25, 0.0])})
    backend.check(params["p"], np.array([1.0, -1.0, -0.25, 1.0]))


@pytest.mark.backends("eager")
@pytest.mark.parametrize("limit", [2.5, 5.0, 7.0])
def test_clip_norm_scales_all_gradients_by_their_common_norm(backend: Backend, limit: float) -> None:
    params = {"a": backend.asarray([[1.0, 1.0]]), "b": backend.asarray(1.0)}
    grads = {"a": backend.asarray([[3.0, 0.0]]), "b": backend.asarray(-4.0)}
    with backend.rules():
        SGD(lr=1.0, clip_norm=limit).update(params, grads)
    scale = min(1.0, limit / 5.0)
    backend.check(params["a"], np.array([[1.0 - 3.0 * scale, 1.0]]))
    backend.check(params["b"], np.array(1.0 + 4.0 * scale))


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
def test_clip_norm_of_zero_gradients_changes_nothing(backend: Backend) -> None:
    params = {"a": backend.asarray([1.0, 2.0])}
    with backend.rules():
        SGD(lr=1.0, clip_norm=1.0).update(params, {"a": backend.asarray([0.0, 0.0])})
    backend.check(params["a"], np.array([1.0, 2.0]))


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
@pytest.mark.parametrize(("size", "limit"), [(1e30, 1.0), (1e-30, 1e-31)])
def test_clip_norm_serves_gradients_whose_squares_no_float32_holds(backend: Backend, size: float, limit: float) -> None:
    params = {"a": backend.asarray([0.0, 0.0], "float32")}
    with backend.rules():
        SGD(lr=1.0, clip_norm=limit).update(params, {"a": backend.asarray([3 * size, -4 * size], "float32")})
    backend.check(params["a"], limit * np.array([-3 / 5, 4 / 5]), dtype="float32")


@pytest.mark.backends("eager")
def test_clipping_comes_before_weight_decay(backend: Backend) -> None:
    params = {"p": backend.asarray([10.0])}
    with backend.rules():
        SGD(lr=1.0, clip_norm=1.0, weight_decay={"l2": 0.5}).update(params, {"p": backend.asarray([100.0])})
    backend.check(params["p"], np.array([10.0 - 1.0 - 5.0]))


@pytest.mark.needs("torch")
@pytest.mark.backends("torch")
@pytest.mark.backends("plain")
def test_clip_norm_and_l2_agree_with_torch(backend: Backend) -> None:
    import torch

    host, history = sample(5)
    params, optimizer = moved(backend, host), Momentum(0.1, 0.9, clip_norm=0.3, weight_decay={"l2": 0.05})
    theirs = {name: torch.tensor(a, requires_grad=True) for name, a in host.items()}
    reference = torch.optim.SGD(theirs.values(), lr=0.1, momentum=0.9, weight_decay=0.05)
    for g in history:
        optimizer.update(params, moved(backend, g))
        for name, p in theirs.items():
            p.grad = torch.tensor(g[name])
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.3)
        reference.step()
    for name, p in nonempty(theirs.items()):
        # PyTorch adds 1e-6 to the norm
        backend.check(params[name], p.detach().numpy(), rtol=1e-5)
