"""Every kernel for NumPy's arrays: gives what the generic op gives, runs, declines, and leaves bits and arguments alone."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.backends.conftest import Code
from tests.backends.numpy.cases import CASES, SMALL_IS_ENOUGH, Case
from tests.backends.numpy.roster import DRIVEN_ELSEWHERE, ROWS, Arguments, is_floating, kernels, op_of, registered
from tests.backends.watched import kernels as watched
from tests.harness import nonempty
from tests.pairs import as_tuple
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import tuned
from xpdl.backends.dispatch import DECLINE

each_kernel = pytest.mark.parametrize("name", ROWS)
has_kernel = pytest.mark.applies(lambda name, code: code == "compiled" or not ROWS[name].compiled)
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def call(name: str) -> Any:
    """The op, as layers call it."""
    generic = dispatch._generics[op_of(name)]
    return getattr(importlib.import_module(generic.__module__), generic.__name__)


def frozen(arguments: Arguments) -> Arguments:
    """The same, which cannot be written to."""
    for a in arguments[0]:
        for array in a if isinstance(a, list) else [a]:
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    return arguments


def made(name: str, dtype: str = "float32", rows: int | None = None) -> Arguments:
    row = ROWS[name]
    found = row.make(np.random.default_rng(0), dtype, rows or row.rows)
    return found if row.in_place else frozen(found)


def test_every_kernel_is_in_the_roster() -> None:
    """Those of compiled code alone are there with Numba."""
    always = {op_of(name) for name, row in ROWS.items() if not row.compiled}
    assert always <= registered() <= {*map(op_of, ROWS), *DRIVEN_ELSEWHERE}


@each_kernel
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [3, None], ids=["few", "many"])
def test_equals_the_generic_op(name: str, dtype: str, rows: int | None, code: Code) -> None:
    args, options = made(name, dtype, rows)
    with dispatch.generic_only():
        expected = as_tuple(call(name)(*copy.deepcopy(args), **options))
    found = as_tuple(call(name)(*args, **options))
    for got, want in zip(nonempty(found), expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        atol = TOLERANCE[dtype] * np.abs(want).max() if is_floating(want) else 0.0
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=atol)


@pytest.mark.exhaustive
@each_kernel
@pytest.mark.parametrize("dtype", [">f4", "longdouble"])
@pytest.mark.parametrize("rows", [1, 3], ids=["one", "few"])
def test_floats_that_no_kernel_is_made_for_are_computed(name: str, dtype: str, rows: int, code: Code) -> None:
    """Of the other byte order, as from a FITS file, and of more than 64 bits."""
    native = {">f4": "float32", "longdouble": "float64"}[dtype]
    args, options = made(name, native, rows)
    given = tuple(_in_dtype(a, dtype) for a in copy.deepcopy(args))
    with dispatch.generic_only():
        expected = as_tuple(call(name)(*copy.deepcopy(given), **options))
    found = as_tuple(call(name)(*given, **options))
    for got, want in zip(nonempty(found), expected, strict=True):
        assert (np.asarray(got).itemsize, got.shape) == (np.asarray(want).itemsize, want.shape)
        atol = TOLERANCE[native] * np.abs(want).max() if is_floating(want) else 0.0
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[native], atol=atol)


def _in_dtype(a: Any, dtype: str) -> Any:
    if isinstance(a, list):
        return [_in_dtype(one, dtype) for one in a]
    return a.astype(dtype) if is_floating(a) else a


def close(got: Any, want: Any, rtol: float, atol: float) -> None:
    """Compare one result; None is of a gradient that was not asked for."""
    if want is None:
        assert got is None
        return
    assert got.shape == want.shape
    if np.isfinite(want).all():
        atol *= max(1, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


@pytest.mark.quick(lambda case: case.quick)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@tuned(**SMALL_IS_ENOUGH)
def test_equals_the_generic_op_in_every_case(case: Case, code: Code) -> None:
    for name, args, options in nonempty(case.calls()):
        args, options = frozen((args, options))
        with dispatch.generic_only():
            expected = as_tuple(call(name)(*in_float64(args) if case.wide else args, **options))
        with xpdl.use("numpy", threads=3):
            found = getattr(watched, name)(*args, **options)
            assert found is not DECLINE or not (case.kernels or (code.name == "compiled" and name in case.compiled))
            found = as_tuple(call(name)(*args, **options) if found is DECLINE else found)
        for got, want in zip(nonempty(found), expected, strict=True):
            exact = name in case.exact
            close(got, want, 0 if exact else case.rtol, 0 if exact else case.atol)
            assert got is None or case.wide or got.dtype == want.dtype
            assert got is None or not case.wide or got.dtype == args[0].dtype
    code.assert_compiled(*case.compiled)


def in_float64(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.astype("float64") if is_floating(a) else a for a in args)


@has_kernel
@each_kernel
def test_a_kernel_answers(name: str, code: Code) -> None:
    args, options = made(name)
    assert any(kernel(*args, **options) is not DECLINE for kernel in nonempty(kernels(name)))


@has_kernel
@each_kernel
def test_no_kernel_runs_where_the_generic_op_is_asked_for(name: str, code: Code, monkeypatch: Any) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a kernel ran")

    args, options = made(name, rows=3)
    own = dict(dispatch.kernels_for(xpdl.backends.namespaces.array_namespace(np.empty(0))))
    monkeypatch.setattr(dispatch, "kernels_for", lambda xp: {**own, op_of(name): (refuse,)})
    with dispatch.generic_only():
        assert call(name)(*args, **options) is not None
    with pytest.raises(AssertionError, match="a kernel ran"):
        call(name)(*args, **options)


@pytest.mark.parametrize(
    ("name", "made_wrong"), [(name, change) for name, row in ROWS.items() for change in row.declined]
)
@has_kernel
def test_declines_what_it_does_not_serve(name: str, made_wrong: Any, code: Code) -> None:
    args, options = made_wrong(made(name))
    with np.errstate(all="ignore"):
        assert [kernel(*args, **options) for kernel in nonempty(kernels(name))] == [DECLINE] * len(kernels(name))


@each_kernel
def test_is_bitwise_identical_for_any_number_of_threads(name: str, code: Code) -> None:
    results = []
    for threads in (1, 2, 3):
        args, options = made(name)
        with xpdl.use("numpy", threads=threads):
            results.append(as_tuple(call(name)(*args, **options)))
    for other in nonempty(results[1:]):
        for one, two in zip(nonempty(results[0]), other, strict=True):
            np.testing.assert_array_equal(one, two)
