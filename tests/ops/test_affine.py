"""The affine map beside what the table drives."""

from __future__ import annotations

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from tests.pairs import sample
from xpdl.errors import MixedArraysError
from xpdl.ops.affine import affine, affine_backward

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


@pytest.mark.needs("torch")
@pytest.mark.parametrize("seed", range(40))
def test_random_shapes_agree_with_the_oracle_and_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.integers(1, 6, rng.integers(2, 5)))
    units = int(rng.integers(1, 6))
    x, W, b = sample(rng, *shape), sample(rng, int(np.prod(shape[1:])), units), sample(rng, units)
    dy = sample(rng, shape[0], units)
    # sums of few products of 8-bit numbers are exact
    np.testing.assert_array_equal(affine(x, W, b), oracles.affine(x, W, b))
    got = affine_backward(dy, x, W)

    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in (x, W, b)]
    y = torch.nn.functional.linear(tensors[0].flatten(1), tensors[1].T, tensors[2])
    y.backward(torch.tensor(dy))
    for gradient, tensor in zip(got, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_need_dx_false_skips_dx_alone(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, W, dy = (backend.asarray(sample(rng, *shape)) for shape in ((3, 2, 2), (4, 5), (3, 5)))
    all_three = backend.call(affine_backward, dy, x, W)
    dx, dW, db = backend.call(affine_backward, dy, x, W, need_dx=False)
    assert dx is None
    assert tuple(dW.shape) == (4, 5)
    if backend.spec.values:
        np.testing.assert_array_equal(backend.to_numpy(dW), backend.to_numpy(all_three[1]))
        np.testing.assert_array_equal(backend.to_numpy(db), backend.to_numpy(all_three[2]))


def test_need_db_false_skips_db_alone(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    arrays = [backend.asarray(sample(rng, *shape)) for shape in ((3, 5), (3, 2, 2), (4, 5))]
    dx, dW, _ = backend.call(affine_backward, *arrays)
    same_dx, same_dW, nothing = backend.call(affine_backward, *arrays, need_db=False)
    assert nothing is None
    if backend.spec.values:
        np.testing.assert_array_equal(backend.to_numpy(same_dx), backend.to_numpy(dx))
        np.testing.assert_array_equal(backend.to_numpy(same_dW), backend.to_numpy(dW))


@pytest.mark.backends("array_api_strict", "torch", "cupy")
def test_mixing_libraries_names_both_and_the_cure(backend: Backend) -> None:
    with pytest.raises(MixedArraysError, match=r"numpy .*xpdl\.asarray") as caught:
        affine(backend.asarray(np.ones((2, 3))), np.ones((3, 1)))
    assert backend.spec.library in str(caught.value)


@pytest.mark.backends("array_api_strict")
def test_mixing_devices_names_both(backend: Backend) -> None:
    elsewhere = backend.xp.ones((3, 1), dtype=backend.xp.float32, device=backend.xp.Device("CPU_DEVICE"))
    with pytest.raises(MixedArraysError, match=f"{backend.spec.device}.*CPU_DEVICE"):
        affine(backend.asarray(np.ones((2, 3), np.float32)), elsewhere)
