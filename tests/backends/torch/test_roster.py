"""Every kernel for PyTorch's tensors: gives what the generic op gives, runs, declines, and leaves its arguments alone."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest

from tests.backends.numpy.roster import op_of
from tests.backends.torch.roster import DRIVEN_ELSEWHERE, MAKE, RECURRENT, ROWS_OF_A_BATCH, as_tensors, tensors
from tests.harness import nonempty
from tests.pairs import as_tuple, by_name
from xpdl import LabelError
from xpdl.backends import dispatch
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import array_namespace

pytestmark = pytest.mark.needs("torch")
each_kernel = pytest.mark.parametrize("name", MAKE)
ATTENTION = ["attention", "attention_backward"]
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def call(name: str) -> Any:
    """The op, as layers call it."""
    generic = dispatch._generics[op_of(name)]
    return getattr(importlib.import_module(generic.__module__), generic.__name__)


def registered(torch: Any) -> dict[str, tuple[Any, ...]]:
    return {name: found for name, found in dispatch.kernels_for(array_namespace(torch.zeros(1))).items() if found}


def made(torch: Any, name: str, dtype: str = "float32", change: Any = lambda a: a) -> Any:
    arguments = MAKE[name](np.random.default_rng(0), dtype, ROWS_OF_A_BATCH)
    return as_tensors(torch, arguments, change)


def channels_last(a: Any) -> Any:
    torch = importlib.import_module("torch")
    return a.contiguous(memory_format=torch.channels_last) if a.ndim == 4 else a


def every_second(a: Any) -> Any:
    """The same values in every second entry along the last axis of a larger tensor."""
    torch = importlib.import_module("torch")
    wide = torch.full((*a.shape[:-1], 2 * a.shape[-1]), 1).to(a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def test_every_kernel_is_in_the_roster(torch: Any) -> None:
    assert {*map(op_of, MAKE), *DRIVEN_ELSEWHERE} == set(registered(torch))


@each_kernel
@pytest.mark.parametrize("layout", [copy.copy, channels_last, every_second], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_the_generic_op(torch: Any, name: str, dtype: str, layout: Any) -> None:
    args, options = made(torch, name, dtype, layout)
    before = copy.deepcopy((args, options))
    with dispatch.generic_only():
        expected = as_tuple(call(name)(*args, **options))
    found = as_tuple(call(name)(*args, **options))
    for now, then in nonempty(zip(tensors((args, options)), tensors(before), strict=True)):
        assert torch.equal(now, then)
    # taps are those of a kernel, and the generic op has none
    count = 1 if "with_taps" in name else len(expected)
    for got, want in nonempty(zip(found[:count], expected[:count], strict=True)):
        if want is None:
            assert got is None
            continue
        scale = float(want.abs().max()) if want.is_floating_point() else 0.0
        torch.testing.assert_close(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


@each_kernel
def test_a_kernel_answers(torch: Any, name: str) -> None:
    args, options = made(torch, name)
    (kernel,) = registered(torch)[op_of(name)]
    assert kernel(*args, **options) is not DECLINE


def differentiated(a: Any) -> Any:
    return a.requires_grad_() if a.is_floating_point() else a


def of_a_subclass(a: Any) -> Any:
    torch = importlib.import_module("torch")

    class Other(torch.Tensor):  # type: ignore[name-defined, misc]
        """A tensor whose operators may do something else."""

    return a.as_subclass(Other) if a.is_floating_point() else a


#: half precision is theirs as it is, or the generic op's
NOT_IN_HALF = ("relu", "relu_backward", "add", "dropout", "batch_normalization")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in MAKE if name != "flush_denormals"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32_and_rounded_once(torch: Any, name: str, dtype: str) -> None:
    kind = getattr(torch, dtype)
    args, options = made(torch, name, change=lambda a: a.to(kind) if a.is_floating_point() else a)
    wide, same = made(torch, name, change=lambda a: a.to(kind).float() if a.is_floating_point() else a)
    (kernel,) = registered(torch)[op_of(name)]
    found = kernel(*args, **options)
    assert (found is DECLINE) == (op_of(name) in NOT_IN_HALF)
    if found is not DECLINE:
        for got, want in zip(as_tuple(found), as_tuple(kernel(*wide, **same)), strict=True):
            assert (got is None) == (want is None)
            if want is not None and want.is_floating_point():
                assert got.dtype in (kind, torch.float32)
                torch.testing.assert_close(got, want.to(got.dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in MAKE if name != "flush_denormals"])
def test_half_precision_by_name_is_that_by_position(torch: Any, name: str) -> None:
    args, options = made(torch, name, change=lambda a: a.half() if a.is_floating_point() else a)
    found, expected = call(name)(**by_name(call(name), args, options)), call(name)(*args, **options)
    for got, want in zip(nonempty(as_tuple(found)), as_tuple(expected), strict=True):
        assert got is want is None or torch.equal(got.nan_to_num(), want.nan_to_num())


# a mask depends on the shape alone
@pytest.mark.parametrize("name", [name for name in MAKE if name != "dropout_mask"])
@pytest.mark.parametrize("change", [differentiated, of_a_subclass], ids=lambda f: f.__name__)
def test_declines_what_it_does_not_serve(torch: Any, name: str, change: Any) -> None:
    args, options = made(torch, name, change=change)
    (kernel,) = registered(torch)[op_of(name)]
    assert kernel(*args, **options) is DECLINE


@each_kernel
def test_serves_tensors_with_gradients_where_autograd_is_off(torch: Any, name: str) -> None:
    args, options = made(torch, name, change=differentiated)
    (kernel,) = registered(torch)[op_of(name)]
    with torch.no_grad():
        found = as_tuple(kernel(*args, **options))
    assert not any(a is not None and a.requires_grad for a in nonempty(found))


@each_kernel
def test_repeats_bit_for_bit(torch: Any, name: str) -> None:
    first, second = (as_tuple(call(name)(*args, **options)) for args, options in (made(torch, name) for _ in range(2)))
    for one, two in zip(nonempty(first), second, strict=True):
        assert one is two is None or torch.equal(one, two)


@pytest.mark.parametrize("label", [-100, -1, 40, 1000])
def test_labels_out_of_range_are_left_to_the_generic_op(torch: Any, label: int) -> None:
    (x, t), _ = made(torch, "softmax_with_loss", "float64")
    t[2] = label
    losses = importlib.import_module("xpdl.ops.losses")
    (kernel,) = registered(torch)["softmax_with_loss"]
    assert kernel(x, t) is dispatch.DECLINE
    with pytest.raises(LabelError, match=f"label {label} of row 2 is not one of the 40 classes"):
        losses.softmax_with_loss(x, t)
    with pytest.raises(LabelError, match=f"label {label} of row 2"), dispatch.generic_only():
        losses.softmax_with_loss(x, t)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_labels_may_be_narrow(torch: Any, dtype: str) -> None:
    (x, t), _ = made(torch, "softmax_with_loss")
    (kernel,) = registered(torch)["softmax_with_loss"]
    torch.testing.assert_close(kernel(x, t.to(getattr(torch, dtype))), kernel(x, t), rtol=0, atol=0)


def test_wide_border_of_pooling_is_left_to_the_generic_op(torch: Any) -> None:
    pooling, x = importlib.import_module("xpdl.ops.pooling"), torch.randn(2, 3, 5, 5)
    (kernel,) = registered(torch)["max_pooling"]
    assert kernel(x, (2, 2), (2, 2), (2, 2)) is DECLINE
    assert pooling.max_pooling(x, (2, 2), (2, 2), (2, 2)).shape == (2, 3, 4, 4)


def test_statistics_of_few_values_keep_a_small_variance(torch: Any) -> None:
    """The variance is not what is left of the root that was divided by."""
    x = torch.tensor([[1.0, 5.0], [1.0 + 1e-4, 5.0]])
    (kernel,) = registered(torch)["batch_normalization"]
    _, mean, var = kernel(x, torch.ones(2), torch.zeros(2), 1e-2)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(var, x.var(0, correction=0), rtol=1e-3, atol=0)
    assert kernel(x[:1], torch.ones(2), torch.zeros(2), 1e-2) is DECLINE


def test_gradient_passes_where_the_output_is_nan(torch: Any) -> None:
    """PyTorch's rule, where the generic op gives 0: a loss that is NaN has no gradient of use in either."""
    activations, y = importlib.import_module("xpdl.ops.activations"), torch.tensor([float("nan"), 1.0, 0.0])
    dy = torch.tensor([2.0, 3.0, 4.0])
    assert activations.relu_backward(dy, y).tolist() == [2.0, 3.0, 0.0]
    with dispatch.generic_only():
        assert activations.relu_backward(dy, y).tolist() == [0.0, 3.0, 0.0]


# PyTorch's own decompositions for jvp are scripted
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap"])
@pytest.mark.parametrize(
    "name", ["convolution", "layer_normalization", "gelu_backward", "embedding_backward", *ATTENTION, *RECURRENT]
)
def test_transforms_of_functions_give_what_they_give_of_the_generic_op(torch: Any, name: str, transform: str) -> None:
    (x, *others), options = made(torch, name, "float64")

    def total(x: Any) -> Any:
        return (as_tuple(call(name)(x, *others, **options))[0] ** 2).sum()

    def run() -> Any:
        if transform == "grad":
            return torch.func.grad(total)(x)
        if transform == "jvp":
            return torch.func.jvp(total, (x,), (torch.ones_like(x),))
        return torch.func.vmap(total)(torch.stack([x, 2 * x]))

    with dispatch.generic_only():
        expected = run()
    torch.testing.assert_close(run(), expected)


def test_attention_to_earlier_keys_of_more_than_the_queries_is_left_to_the_generic_op(torch: Any) -> None:
    """PyTorch puts the first query at the first key, the op the last at the last."""
    q, k = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 5, 4)
    (kernel,) = registered(torch)["attention"]
    assert kernel(q, k, k, causal=True) is DECLINE
    assert kernel(q, k, k) is not DECLINE


@pytest.mark.parametrize("threads", [2, 3])
def test_gradients_of_embeddings_are_the_same_for_any_number_of_threads(torch: Any, threads: int) -> None:
    (kernel,) = registered(torch)["embedding_backward"]
    generator, before = torch.Generator().manual_seed(0), torch.get_num_threads()
    dy, ids = torch.randn(5000, 30, generator=generator), torch.randint(-3, 60, (5000,), generator=generator)
    try:
        torch.set_num_threads(1)
        alone = kernel(dy, ids, 50)
        torch.set_num_threads(threads)
        together = kernel(dy, ids, 50)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)
    # ids out of range are nobody's, and narrow ones may not hold the number of rows
    with dispatch.generic_only():
        torch.testing.assert_close(alone, call("embedding_backward")(dy, ids, 50), rtol=1e-4, atol=1e-4)
        narrow = call("embedding_backward")(dy, ids.to(torch.int8), 500)
    torch.testing.assert_close(kernel(dy, ids.to(torch.int8), 500), narrow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "place"), [("rnn", 1), ("lstm", 1), ("lstm", 2), ("gru", 1)])
def test_a_state_of_another_number_of_rows_is_left_to_the_generic_op(torch: Any, name: str, place: int) -> None:
    args, _ = made(torch, name)
    (kernel,) = registered(torch)[name]
    assert kernel(*args) is not DECLINE
    assert kernel(*[a[:1] if k == place else a for k, a in enumerate(args)]) is DECLINE


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_masks_of_recurrent_ops_are_booleans_of_each_step(torch: Any, name: str) -> None:
    (*args, mask), _ = made(torch, name)
    (kernel,) = registered(torch)[name]
    for other in (mask.int(), mask[:, :1]):
        assert kernel(*args, other) is DECLINE


@pytest.mark.parametrize("operator", ["_FORWARD", "_BACKWARD"])
@pytest.mark.parametrize("name", ["missing", "_flash_attention_forward", "relu"])
def test_attention_without_its_operators_is_the_generic_op(
    torch: Any, monkeypatch: pytest.MonkeyPatch, operator: str, name: str
) -> None:
    """As of a version of PyTorch that lacks them, or in which they take other arguments."""
    from xpdl.backends.torch import attention

    args, options = made(torch, "attention")
    backward_args, backward_options = made(torch, "attention_backward")
    found = as_tuple(call("attention")(*args, **options))
    gradients = call("attention_backward")(*backward_args, **backward_options)
    attention._operators.cache_clear()
    monkeypatch.setattr(attention, operator, name)
    try:
        assert attention.attention(*args, **options) is DECLINE
        assert attention.attention_backward(*backward_args, **backward_options) is DECLINE
        for got, want in zip(as_tuple(call("attention")(*args, **options)), found, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        for got, want in zip(call("attention_backward")(*backward_args, **backward_options), gradients, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    finally:
        attention._operators.cache_clear()
