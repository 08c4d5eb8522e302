"""States and masks of the recurrent ops: those of other shapes are refused by every kernel and by the generic op."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import ShapeError
from xpdl.ops import recurrent

N, T, F, H = 3, 4, 5, 6
# op -> gates, names of the states, whether there is a second bias
OPS = {"rnn": (1, ("h",), False), "lstm": (4, ("h", "c"), False), "gru": (3, ("h",), True)}


def arguments(op: str, backend: Any) -> dict[str, Any]:
    gates, states, second = OPS[op]
    rng = np.random.default_rng(0)
    shapes = {"x": (N, T, F), **dict.fromkeys(states, (N, H)), "Wx": (F, gates * H), "Wh": (H, gates * H)}
    shapes |= {"b": (gates * H,), **({"bh": (H,)} if second else {})}
    return {name: backend.asarray(rng.normal(size=shape).astype("float32")) for name, shape in shapes.items()}


def backward_arguments(op: str, backend: Any) -> dict[str, Any]:
    """Those of the backward op, after a forward pass."""
    given = arguments(op, backend)
    results = getattr(recurrent, op)(**given)
    names = {"rnn": ("y",), "lstm": ("y", "cells", "gates"), "gru": ("y", "gates")}[op]
    saved = dict(zip(names, results if isinstance(results, tuple) else (results,), strict=True))
    inputs = {name: value for name, value in given.items() if name not in ("b", "bh")}
    return {"dy": saved["y"], **inputs, **saved}


@pytest.mark.skip_backend("jit", reason="arguments by name, and errors, are those of the op outside of it")
@pytest.mark.parametrize("shape", [(1, H), (N - 1, H), (N + 1, H), (N, 1), (N, H + 1), (H,), (1, N, H)], ids=str)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("op", "state"), [(op, state) for op, (_, states, _) in OPS.items() for state in states])
def test_a_state_of_another_shape_is_refused(
    backend: Any, op: str, state: str, backward: bool, shape: tuple[int, ...]
) -> None:
    given = backward_arguments(op, backend) if backward else arguments(op, backend)
    given[state] = backend.asarray(np.zeros(shape, "float32"))
    name = f"{op}_backward" if backward else op
    message = f"{name}: {state} must have the shape (N, H), here (3, 6), one state for each sequence, got {shape}"
    with pytest.raises(ShapeError, match=re.escape(message)):
        getattr(recurrent, name)(*given.values())


@pytest.mark.skip_backend("jit", reason="arguments by name, and errors, are those of the op outside of it")
@pytest.mark.parametrize("shape", [(1, T), (N, 1), (N - 1, T), (T,), (N, T, 1)], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_a_mask_of_another_shape_is_refused(backend: Any, op: str, shape: tuple[int, ...]) -> None:
    given = [*arguments(op, backend).values(), backend.asarray(np.ones(shape, bool))]
    with pytest.raises(ShapeError, match=re.escape(f"{op}: mask must have the shape (N, T), here (3, 4), got {shape}")):
        getattr(recurrent, op)(*given)


@pytest.mark.skip_backend("jit", reason="arguments by name are those of the op outside of it")
@pytest.mark.backends("values")
@pytest.mark.applies(lambda backend: backend.library in ("numpy", "cupy", "torch", "jax"))
@pytest.mark.parametrize("op", OPS)
def test_half_precision_by_name_is_that_by_position(backend: Any, op: str) -> None:
    given = {name: backend.asarray(backend.to_numpy(a), dtype="float16") for name, a in arguments(op, backend).items()}
    by_name, by_position = getattr(recurrent, op)(**given), getattr(recurrent, op)(*given.values())
    pairs = list(zip(by_name, by_position, strict=True)) if isinstance(by_name, tuple) else [(by_name, by_position)]
    for one, other in nonempty(pairs):
        np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))
