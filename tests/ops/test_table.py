"""Every op, in every configuration of the table, on every backend."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest

import xpdl.ops
from tests.harness import Backend, nonempty
from tests.ops.table import CASES, CORE, FIRST
from tests.pairs import Case, as_tuple, cast, check, check_pair, expected
from xpdl.backends import dispatch


def each_case(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


@each_case(CASES)
@pytest.mark.backends("numpy", "array_api_strict", "torch", "cupy")
def test_agrees_with_the_oracle(backend: Backend, case: Case) -> None:
    for dtype in ("float64", "float32") if backend.spec.float64 else ("float32",):
        check_pair(backend, case, dtype)


@each_case(CORE)
@pytest.mark.backends("jit")
def test_agrees_with_the_oracle_when_traced(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "float32")


# without jit, JAX compiles every operation for every shape: slow
@each_case(FIRST)
@pytest.mark.backends("jax")
@pytest.mark.backends("eager")
def test_agrees_with_the_oracle_on_jax_untraced(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "float32")


@each_case(CORE)
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("float16")
def test_float16_stays_float16(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "float16")


@pytest.mark.needs("ml_dtypes")
@each_case(CASES)
@pytest.mark.backends("torch", "cupy")
def test_bfloat16_stays_bfloat16(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "bfloat16")


@each_case(FIRST)
@pytest.mark.backends("jit")
def test_float16_stays_float16_when_traced(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "float16")


def transposed(backend: Backend, a: Any) -> Any:
    """Columns first in memory."""
    axes = tuple(reversed(range(a.ndim)))
    return backend.xp.permute_dims(backend.asarray(a.transpose(axes)), axes)


def sliced(backend: Backend, a: Any) -> Any:
    """Every second entry of a larger array, whose other entries are NaN or the largest integer."""
    if a.ndim == 0:
        return backend.asarray(a)
    odd = {"f": np.nan, "b": True}.get(a.dtype.kind, 127)
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), odd, a.dtype)
    wide[..., 1::2] = a
    return backend.asarray(wide)[..., 1 : 2 * a.shape[-1] : 2]


def reversed_in_memory(backend: Backend, a: Any) -> Any:
    """Negative strides: only NumPy and CuPy have them."""
    flips = (slice(None, None, -1),) * a.ndim
    return backend.asarray(a[flips])[flips]


@each_case(CORE)
@pytest.mark.parametrize("layout", [transposed, sliced])
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("plain")
def test_accepts_any_memory_layout(backend: Backend, case: Case, layout: Any) -> None:
    check_pair(backend, case, "float64", layout)


@each_case(CORE)
@pytest.mark.backends("numpy", "cupy")
@pytest.mark.backends("plain")
def test_accepts_negative_strides(backend: Backend, case: Case) -> None:
    check_pair(backend, case, "float64", reversed_in_memory)


@each_case(CORE)
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("plain")
def test_generic_agrees_where_a_kernel_answers(backend: Backend, case: Case) -> None:
    with dispatch.generic_only():
        check_pair(backend, case, "float64")


@pytest.mark.needs("torch")
@each_case([case for case in CORE if case.pair.backward])
def test_agrees_with_torch_autograd(case: Case) -> None:
    import torch

    arrays = [torch.tensor(a) for a in case.arrays]
    for which in case.pair.wrt:
        arrays[which].requires_grad_()
    want = expected(case)
    y = as_tuple(case.pair.forward(*arrays, **case.static))[0]
    y.backward(torch.tensor(want.dy))
    for which, desired in nonempty(zip(case.pair.wrt, want.gradients, strict=True)):
        np.testing.assert_allclose(arrays[which].grad.numpy(), desired, rtol=1e-8, atol=1e-8 * np.abs(desired).max())


@each_case([case for case in CORE if case.pair.backward])
@pytest.mark.backends("jax:jit")
def test_agrees_with_jax_grad(backend: Backend, case: Case) -> None:
    import jax

    want = expected(case)
    dy = backend.asarray(want.dy)

    def total(*arrays: Any) -> Any:
        return (dy * as_tuple(case.pair.forward(*arrays, **case.static))[0]).sum()

    arrays = [backend.asarray(cast(a, "float64")) for a in case.arrays]
    gradients = jax.jit(jax.grad(total, argnums=case.pair.wrt))(*arrays)
    for got, desired in nonempty(zip(gradients, want.gradients, strict=True)):
        check(backend, got, desired, "float64", 1e-8)


def test_every_op_has_a_row() -> None:
    for module in pkgutil.iter_modules(xpdl.ops.__path__, "xpdl.ops."):
        importlib.import_module(module.name)
    rows = {f.__name__ for case in CASES for f in (case.pair.forward, case.pair.backward) if f}
    # the steps of optimizers are ops too; they have a roster of their own
    ops = {name for name, f in dispatch._generics.items() if f.__module__.startswith("xpdl.ops.")}
    missing = ops - rows
    assert not missing, f"add rows to tests/ops/table.py for {sorted(missing)}"


def test_every_op_has_a_core_row() -> None:
    rows = {f.__name__ for case in CASES for f in (case.pair.forward, case.pair.backward) if f}
    core = {f.__name__ for case in CORE for f in (case.pair.forward, case.pair.backward) if f}
    assert core == rows
