"""Products with packed weights equal those by `numpy.matmul`, whatever the panels, and recurrent kernels really use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.watched import kernels
from tests.harness import nonempty
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.numpy import step_products
from xpdl.backends.numpy.step_products import StepProduct, panels
from xpdl.ops import recurrent

STEPS = TUNING.recurrent_packed_steps

#: rows, length, columns of a product -> parts of the length, and columns of a panel
PANELS = {
    "all lie as they are": ((20, 100, 400), (1, 400)),
    "few rows": ((20, 256, 1024), (1, 64)),
    "transposed": ((20, 1024, 256), (1, 32)),
    "width that is no power of 2": ((20, 650, 2600), (1, 65)),
    "sums in parts": ((20, 2600, 650), (4, 65)),
    "sums in halves": ((20, 2048, 512), (2, 32)),
    "many rows": ((256, 256, 1024), (1, 1024)),
    "no divisor": ((20, 1031, 1031), (1, 1031)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", PANELS)
def test_equals_matmul_in_any_order_of_memory(case: str, dtype: str) -> None:
    (rows, length, columns), expected = PANELS[case]
    assert panels(rows, length, columns) == expected
    rng = np.random.default_rng(0)
    a, W = rng.normal(size=(rows, length)).astype(dtype), rng.normal(size=(length, columns)).astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-6
    for weights in (W, np.asfortranarray(W)):
        product, out = StepProduct(weights, rows, STEPS), np.full((rows, columns), np.nan, dtype)
        assert (product.weights.ndim == 2) == (expected == (1, columns))
        product(a, out)
        np.testing.assert_allclose(out, a @ W, rtol=0, atol=tolerance * length)


@pytest.mark.parametrize(("rows", "steps"), [(20, STEPS - 1), (1, STEPS)])
def test_weights_of_few_steps_or_one_row_are_not_copied(rows: int, steps: int) -> None:
    W = np.ones((256, 1024), np.float32)
    for weights in (W, W.T):
        assert StepProduct(weights, rows, steps).weights is weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("op", ["rnn", "gru", "lstm"])
def test_recurrent_kernels_multiply_by_panels(op: str, masked: bool, monkeypatch: Any) -> None:
    gates, units, n, steps = {"rnn": 1, "gru": 3, "lstm": 4}[op], 8, 5, STEPS + 1
    rng = np.random.default_rng(3)

    def drawn(*shape: int) -> Any:
        return 0.5 * rng.normal(size=shape)

    states = [drawn(n, units) for _ in range(2 if op == "lstm" else 1)]
    weights = [drawn(3, gates * units), drawn(units, gates * units)]
    biases = [drawn(gates * units)] + ([drawn(units)] if op == "gru" else [])
    x, dy = drawn(n, steps, 3), drawn(n, steps, units)
    mask = rng.random((n, steps)) < 0.6 if masked else None

    def both_passes(ops: Any) -> list[Any]:
        saved = getattr(ops, op)(x, *states, *weights, *biases, mask)
        saved = list(saved) if isinstance(saved, tuple) else [saved]
        return [*saved, *getattr(ops, f"{op}_backward")(dy, x, *states, *weights, *saved, mask)]

    cut, call = [], StepProduct.__call__
    monkeypatch.setattr(
        step_products.StepProduct, "__call__", lambda self, *args: cut.append(self.weights.ndim) or call(self, *args)
    )
    with dispatch.generic_only():
        expected = both_passes(recurrent)
    assert cut == []
    with tuned(gemm_unpacked_products=n * units * 2, recurrent_few_columns=1):
        found = both_passes(kernels)
    assert cut == [4] * (2 * steps)
    for actual, desired in nonempty(zip(found, expected, strict=True)):
        np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-12)
