"""Epilogues of ops: the activation that is named, and what its backward pass needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend, nonempty
from tests.ops.table import CASES
from tests.pairs import Case, as_tuple, sample
from xpdl.backends.dispatch import generic_only
from xpdl.ops import affine, arithmetic, convolution, normalization, pooling

#: one case for each op with an epilogue
FUSED = list({case.pair.forward: case for case in CASES if "activation" in case.static}.values())
FUSED_IDS = [case.pair.forward.__name__ for case in FUSED]
BACKWARD = [
    affine.affine_backward,
    convolution.convolution_backward,
    normalization.batch_normalization_backward,
    normalization.normalize_backward,
]


def test_every_op_that_takes_an_activation_is_here() -> None:
    functions = [
        f for module in (affine, arithmetic, convolution, normalization, pooling) for f in vars(module).values()
    ]
    named = {f.__name__ for f in functions if "activation" in getattr(f, "__annotations__", {})}
    inside = {"_epilogue", "_of_volumes", "activated", "before_activation"}
    backward = {"affine_backward_input", "max_pooling_backward", "normalize_of_ranks_backward"}
    backward |= {op.__name__ for op in BACKWARD}
    assert named - inside - backward == set(FUSED_IDS)


@pytest.mark.parametrize("generic", [False, True], ids=["", "generic"])
@pytest.mark.parametrize("case", FUSED, ids=FUSED_IDS)
def test_unknown_activation_is_refused(backend: Backend, case: Case, generic: bool) -> None:
    arrays = [backend.asarray(a) for a in case.arrays]
    static = {**case.static, "activation": "tanh"}
    with pytest.raises(ValueError, match="activation: expected None or 'relu', got 'tanh'; call another activation"):
        if generic:
            with generic_only():
                case.pair.forward(*arrays, **static)
        else:
            case.pair.forward(*arrays, **static)


def _gradient_arguments(op: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    if op is affine.affine_backward:
        return [sample(rng, 3, 2), sample(rng, 3, 4), sample(rng, 4, 2)]
    if op is convolution.convolution_backward:
        return [sample(rng, 2, 3, 2, 2), sample(rng, 2, 1, 3, 3), sample(rng, 3, 1, 2, 2)]
    channels = [np.abs(sample(rng, 2)) for _ in range(3)]
    return [sample(rng, 3, 2, 2, 2), sample(rng, 3, 2, 2, 2), *channels]


@pytest.mark.parametrize("op", BACKWARD, ids=lambda op: op.__name__)
def test_backward_of_a_relu_needs_its_output(backend: Backend, op: Any) -> None:
    eps = () if op in BACKWARD[:2] else (1e-3,)
    arrays = [backend.asarray(a) for a in _gradient_arguments(op)]
    with pytest.raises(TypeError, match="y: the backward pass of activation='relu' needs the output"):
        op(*arrays, *eps, activation="relu")
    with pytest.raises(ValueError, match="activation: expected None or 'relu', got 'gelu'"):
        op(*arrays, *eps, y=arrays[0], activation="gelu")


@pytest.mark.backends("values")
@pytest.mark.parametrize("op", BACKWARD, ids=lambda op: op.__name__)
def test_output_is_not_read_without_an_activation(backend: Backend, op: Any) -> None:
    eps = () if op in BACKWARD[:2] else (1e-3,)
    host = _gradient_arguments(op)
    arrays = [backend.asarray(a) for a in host]
    plain = as_tuple(backend.call(lambda *given: op(*given, *eps), *arrays))
    with_y = as_tuple(
        backend.call(lambda *given: op(*given[:-1], *eps, y=given[-1]), *arrays, backend.asarray(-host[0]))
    )
    for one, other in nonempty(zip(plain, with_y, strict=True)):
        np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))
