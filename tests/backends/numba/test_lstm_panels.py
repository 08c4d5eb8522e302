"""Steps of LSTM by panels of units equal those of the generic op, whatever the panels and threads, and really run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.backends.watched import kernels, load_compiled, own_kernels
from tests.harness import nonempty
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.numba import loading
from xpdl.ops import recurrent

pytestmark = pytest.mark.needs("numba")

N, T, F = 5, 9, 3


@pytest.fixture
def panels(monkeypatch: Any) -> Iterator[Any]:
    """The module, and in `ran` the panels of each pass."""
    module = loading.load("xpdl.backends.numba.lstm_panels")
    if module is None:
        pytest.skip("compiled code cannot call a BLAS here")
    run, module.ran = module._run, []
    monkeypatch.setattr(module, "_run", lambda *args: module.ran.append((args[0], *args[2].shape[::2])) or run(*args))
    with own_kernels():
        load_compiled()
        yield module
    del module.ran


def drawn(units: int, n: int = N, steps: int = T) -> tuple[Any, Any]:
    """Arguments of the op, and a gradient of its states."""
    rng = np.random.default_rng(0)
    shapes = (n, steps, F), (n, units), (n, units), (F, 4 * units), (units, 4 * units), (4 * units,), (n, steps, units)
    *given, dy = (0.5 * rng.normal(size=shape).astype("f") for shape in shapes)
    return given, dy


def both_passes(ops: Any, given: Any, dy: Any, mask: Any) -> list[Any]:
    saved = ops.lstm(*given, mask)
    return [*saved, *ops.lstm_backward(dy, *given[:5], *saved, mask)]


# panels of 2 units, or two panels, or one
SIZES = [
    ({"gemm_unpacked_products": N * 12 * 4 * 2, "recurrent_panel": 2}, {12: 6, 11: 6}),
    ({"gemm_unpacked_products": 1}, {12: 2, 11: 2, 1: 1}),
    ({}, {12: 1, 11: 1}),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("thresholds", "units", "count"),
    [(sizes, units, count) for sizes, counts in SIZES for units, count in counts.items()],
)
def test_equals_the_generic_op(
    panels: Any, thresholds: Any, units: int, count: int, threads: int, masked: bool
) -> None:
    given, dy = drawn(units)
    mask = np.random.default_rng(1).random((N, T)) < 0.6 if masked else None
    with dispatch.generic_only():
        exact = both_passes(recurrent, [a.astype("d") for a in given], dy.astype("d"), mask)
    with tuned(**thresholds), xpdl.use("numpy", threads=threads):
        found = both_passes(kernels, given, dy, mask)
    size = -(-units // count)
    assert panels.ran == [(panels._forward, count, 4 * size), (panels._backward, count, size)]
    for actual, desired in zip(found, exact, strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, desired, rtol=0, atol=3e-6 * max(1.0, np.abs(desired).max()))


@pytest.mark.parametrize("units", [128, 85])
def test_results_are_bitwise_identical_for_any_number_of_threads(panels: Any, units: int) -> None:
    given, dy = drawn(units, n=40, steps=30)
    results = []
    for threads in (1, 2, 3, 7):
        with xpdl.use("numpy", threads=threads):
            results.append(both_passes(kernels, given, dy, None))
    assert len(panels.ran) == 8 and panels.ran[0][1] > 1
    for others in zip(*results, strict=True):
        assert len({other.tobytes() for other in others}) == 1


@pytest.mark.parametrize("order", [(1,), (2, 0, 1), (0, 2, 1), (1, 2, 0)])
def test_steps_wait_for_no_thread_that_has_not_begun(panels: Any, order: Any, monkeypatch: Any) -> None:
    """Workers run one after the other here: the first does all, whichever it is, and the others find nothing to do."""
    given, dy = drawn(12)
    with tuned(**SIZES[0][0]):
        expected = both_passes(kernels, given, dy, None)
        monkeypatch.setattr(thread_pool, "run", lambda tasks: [tasks[k]() for k in order if k < len(tasks)])
        with xpdl.use("numpy", threads=3):
            found = both_passes(kernels, given, dy, None)
    for actual, desired in nonempty(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(actual, desired)


def test_few_steps_and_single_rows_are_not_worth_it(panels: Any) -> None:
    for n, steps, runs in (
        (2, TUNING.recurrent_packed_steps, 2),
        (2, TUNING.recurrent_packed_steps - 1, 0),
        (1, 20, 0),
    ):
        panels.ran.clear()
        both_passes(kernels, *drawn(6, n, steps), None)
        assert len(panels.ran) == runs


@pytest.mark.parametrize("wrong", range(9))
def test_array_of_another_size_is_declined(panels: Any, wrong: int) -> None:
    """Compiled code would read beyond it."""
    given, dy = drawn(12)
    saved = kernels.lstm(*given)
    arguments = [dy, *given[:5], *saved]
    arguments[wrong] = arguments[wrong][..., :-1]
    compiled = loading.load("xpdl.backends.numba.lstm")
    assert compiled.lstm_backward(*arguments) is dispatch.DECLINE
    given[wrong % 5] = given[wrong % 5][..., :-1]
    assert compiled.lstm(*given) is dispatch.DECLINE


def test_arrays_in_any_order_and_read_only_are_taken_and_left_alone(panels: Any) -> None:
    given, dy = drawn(12)
    expected = both_passes(kernels, given, dy, None)
    turned = [np.asfortranarray(a) for a in (*given, dy)]
    for a in turned:
        a.flags.writeable = False
    found = both_passes(kernels, turned[:-1], turned[-1], None)
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-5 * max(1.0, np.abs(desired).max()))
    for a, before in zip(turned, (*given, dy), strict=True):
        np.testing.assert_array_equal(a, before)
