"""Recurrent layers on CuPy: a product and a launch for each step, whatever the memory looks like."""

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import RECURRENT, recurrent_arrays
from xpdl.backends.cupy import trace

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
N, STEPS, FEATURES, UNITS = 3, 5, 4, 8


def passes(op, given, place, mask=None):
    """Results of the forward and the backward pass for arrays that `place` puts on the device."""
    _, states, _, backward = RECURRENT[op]
    arrays, flags = [place(a.astype("float32")) for a in given], () if mask is None else (place(mask),)
    results = op(*arrays, *flags)
    results = results if isinstance(results, tuple) else (results,)
    dy = place(np.random.default_rng(1).normal(size=(N, STEPS, UNITS)).astype("float32"))
    return *results, *backward(dy, *arrays[: 3 + states], *results, *flags)


@pytest.fixture(params=RECURRENT, ids=lambda op: op.__name__)
def op(request):
    return request.param


def given(op):
    return recurrent_arrays(op, np.random.default_rng(0), N, STEPS, FEATURES, UNITS)


def test_a_step_is_a_product_and_a_launch(gpu, op):
    with trace.traced() as calls:
        passes(op, given(op), gpu.array)
    steps = [call.name for call in calls if call.name.startswith(op.__name__)]
    assert steps == [f"{op.__name__}_step"] * STEPS + [f"{op.__name__}_step_backward"] * STEPS
    # of inputs; backward of inputs, and of both weights
    assert sum(call.name in ("gemm", "matmul") for call in calls) == (STEPS + 1) + (STEPS + 3)


def test_unaligned_memory_and_another_run_give_the_same_bits(gpu, op):
    mask = np.random.default_rng(2).random((N, STEPS)) < 0.6
    wanted = [a.get().tobytes() for a in passes(op, given(op), gpu.array, mask)]
    for place in (gpu.array, gpu.unaligned):
        assert [a.get().tobytes() for a in passes(op, given(op), place, mask)] == wanted


def test_arrays_that_do_not_fit_are_left_to_the_generic_op(gpu, op):
    x, *others = [gpu.array(a) for a in given(op)]
    y = op(x, *(a.astype("float32") for a in others))
    assert not [each.name for each in gpu.launches if each.name.endswith("step")]
    assert (y[0] if isinstance(y, tuple) else y).shape == (N, STEPS, UNITS)
    with pytest.raises(ValueError, match=r"[Mm]ismatch|broadcast|dimension"):
        op(x, *others[:-1], others[-1][:-1])
