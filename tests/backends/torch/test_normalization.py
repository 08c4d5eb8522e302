"""Normalization of tensors whose mean is large beside their spread: as close as float32 allows, on PyTorch's kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import nonempty
from tests.pairs import as_tuple
from xpdl.backends import dispatch
from xpdl.ops import normalization as by_channel
from xpdl.ops import row_normalization as by_row

pytestmark = pytest.mark.needs("torch")

_EPS = 1e-5
# the subtraction of the mean is exact, and so the error does not grow with the mean
_BOUND = 64 * float(np.finfo(np.float32).eps)

Op = Callable[..., Any]


def _of_channels(forward: Op, x: Any, dy: Any, gamma: Any, beta: Any) -> dict[Op, tuple[Any, ...]]:
    """Arguments of the ops by channel, their statistics rounded to float32."""
    _, mean, var = (a.astype(np.float32) for a in forward(*_wide(x, gamma, beta), _EPS))
    return {
        by_channel.batch_normalization: (x, gamma, beta, _EPS),
        by_channel.batch_normalization_backward: (dy, x, gamma, mean, var, _EPS),
        by_channel.normalize: (x, gamma, beta, mean, var, _EPS),
        by_channel.normalize_backward: (dy, x, gamma, mean, var, _EPS),
    }


def _of_rows(forward: Op, x: Any, dy: Any, gamma: Any, beta: Any) -> dict[Op, tuple[Any, ...]]:
    """Arguments of the ops by row, their statistics rounded to float32."""
    _, mean, std = (a.astype(np.float32) for a in forward(*_wide(x, gamma, beta), _EPS))
    return {
        by_row.layer_normalization: (x, gamma, beta, _EPS),
        by_row.layer_normalization_backward: (dy, x, gamma, mean, std),
    }


def _wide(*arguments: Any) -> tuple[Any, ...]:
    return tuple(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arguments)


@pytest.mark.parametrize("shape", [(64, 6), (8, 6, 5, 6)], ids=["rows", "images"])
@pytest.mark.parametrize("mean", [0.0, 1e4, -4e4, 1e6])
def test_a_large_mean_costs_no_digits(torch: Any, shape: tuple[int, ...], mean: float) -> None:
    rng = np.random.default_rng(0)
    x, dy = ((rng.standard_normal(shape) + m).astype(np.float32) for m in (mean, 0.0))
    gamma, beta = (rng.standard_normal(6).astype(np.float32) + 2 for _ in range(2))
    with dispatch.generic_only():
        cases = _of_channels(by_channel.batch_normalization, x, dy, gamma, beta)
        cases |= _of_rows(by_row.layer_normalization, x, dy, gamma, beta)
        expected = {op: as_tuple(op(*_wide(*arguments))) for op, arguments in cases.items()}
    for op, arguments in nonempty(cases.items()):
        got = as_tuple(op(*(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments)))
        for place, (one, want) in enumerate(nonempty(zip(got, expected[op], strict=True))):
            error = np.abs(one.numpy().astype(np.float64) - want).max()
            assert error <= _BOUND * np.abs(want).max(), f"{op.__name__}, result {place}"
