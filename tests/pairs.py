"""Checking a forward function and its backward on a backend, against an oracle in float64."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.harness import Backend
from tests.oracles import central_differences

# rounding inside sums of some tens of terms, against the largest value
HALF = {"float16": 2e-2, "bfloat16": 4e-2}


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A forward function, what it must compute, and how its backward is called.

    Attributes
    ----------
    forward : function
        Of arrays, and keywords that are not arrays; gives an array or a tuple whose first entry is differentiated.
    oracle : function
        The same of NumPy arrays, written independently.
    backward : function, optional
    call_backward : function
        ``(backward, dy, outputs, arrays, static)`` -> gradients, one per entry of `wrt`, perhaps followed by others.
    wrt : tuple of int
        The positions of the arrays that have gradients.
    wide : tuple of int
        The positions of the outputs that are float32 for arrays in half precision.
    """

    forward: Callable[..., Any]
    oracle: Callable[..., Any]
    backward: Callable[..., Any] | None = None
    call_backward: Callable[..., Any] = lambda backward, dy, outputs, arrays, static: backward(dy, *arrays, **static)
    wrt: tuple[int, ...] = (0,)
    wide: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One configuration of a pair: arrays (floating ones in float64) and keywords.

    A `core` case is also run where compiling is slow (JAX), in float16 and in odd memory layouts.
    """

    id: str
    pair: Pair
    arrays: tuple[Any, ...]
    static: dict[str, Any] = dataclasses.field(default_factory=dict)
    core: bool = False


@dataclasses.dataclass(frozen=True)
class Expected:
    outputs: tuple[Any, ...]
    dy: Any
    gradients: tuple[Any, ...]


def sample(rng: np.random.Generator, *shape: int) -> Any:
    """Odd multiples of 1/128 between -2 and 2: exact in every floating dtype, and never 0, where relu has its kink."""
    return (2.0 * rng.integers(-128, 128, shape) + 1.0) / 128.0


def distinct(rng: np.random.Generator, *shape: int) -> Any:
    """As `sample`, without two equal values: no ties for a maximum."""
    count = int(np.prod(shape))
    return (2.0 * rng.permutation(count).reshape(shape) - count + 1 - count % 2) / 128.0


def by_name(op: Any, args: Any, options: Any) -> dict[str, Any]:
    """All arguments of an op by their names, but for the first, which may be by its place alone."""
    return {**dict(zip(inspect.signature(op).parameters, args, strict=False)), **options}


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@functools.cache
def expected(case: Case) -> Expected:
    """Values of the oracle for a case, with a random upstream gradient; computed once for all backends."""
    rng = np.random.default_rng(len(case.id))
    outputs = as_tuple(case.pair.oracle(*case.arrays, **case.static))
    dy = sample(rng, *outputs[0].shape)
    gradients: list[Any] = []
    if case.pair.backward is not None:

        def first(*arrays: Any) -> Any:
            return as_tuple(case.pair.oracle(*arrays, **case.static))[0]

        gradients = [central_differences(first, case.arrays, which, dy) for which in case.pair.wrt]
    return Expected(outputs, dy, tuple(gradients))


def cast(a: Any, dtype: str) -> Any:
    """Floating arrays in `dtype`; others as they are."""
    if a.dtype.kind != "f":
        return a
    return a.astype(importlib.import_module("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)


def as_read(host: Any) -> Any:
    """Values as `Backend.to_numpy` returns them: bfloat16 as float32."""
    return host.astype("float32") if host.dtype.name == "bfloat16" else host


def check_pair(
    backend: Backend,
    case: Case,
    dtype: str,
    make: Callable[[Backend, Any], Any] = lambda backend, a: backend.asarray(a),
) -> None:
    """Forward against the oracle, backward against central differences; what came in is left alone.

    Namespace, device, dtype and shape of every output are checked too. `make` turns a host array into one of the
    backend, in whatever memory layout.
    """
    want, pair = expected(case), case.pair
    arrays = [make(backend, cast(a, dtype)) for a in case.arrays]
    outputs = as_tuple(backend.call(pair.forward, *arrays, **case.static))
    assert len(outputs) == len(want.outputs)
    tolerance = HALF.get(dtype)
    for place, (got, desired) in enumerate(zip(outputs, want.outputs, strict=True)):
        check(backend, got, desired, "float32" if place in pair.wide and dtype in HALF else dtype, tolerance)
    given = [(a, cast(host, dtype)) for a, host in zip(arrays, case.arrays, strict=True)]

    if pair.backward is not None:
        dy = make(backend, cast(want.dy, dtype))
        kept = [backend.to_numpy(y) for y in outputs] if backend.spec.values else []

        def backward(dy: Any, outputs: Any, arrays: Any) -> Any:
            return pair.call_backward(pair.backward, dy, outputs, arrays, case.static)

        gradients = as_tuple(backend.call(backward, dy, outputs, arrays))
        # central differences in float64 are good to about 1e-10 of the largest value
        loose = {"float64": 1e-8, "float32": 5e-5, **HALF}[dtype]
        for got, desired in zip(gradients, want.gradients, strict=False):
            check(backend, got, desired, dtype, loose)
        assert len(gradients) >= len(want.gradients)
        given += [(dy, cast(want.dy, dtype)), *zip(outputs, kept, strict=False)]

    if backend.spec.values:
        for a, host in given:
            np.testing.assert_array_equal(backend.to_numpy(a), as_read(host), err_msg="an input was modified")


def check(backend: Backend, got: Any, desired: Any, dtype: str, tolerance: float | None) -> None:
    """As `Backend.check`, for an oracle in float64 and a computation in `dtype`."""
    desired = np.asarray(desired)
    name = dtype if desired.dtype.kind == "f" else desired.dtype.name
    largest = float(np.abs(desired.astype(float)).max(initial=0.0))
    atol = None if tolerance is None else tolerance * largest
    backend.check(got, desired, rtol=tolerance, atol=atol, dtype=name)
