"""Recurrent ops on JAX's arrays, one step of which is compiled for sequences of any length."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.harness import nonempty
from tests.pairs import as_tuple
from xpdl.backends import dispatch
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import array_namespace
from xpdl.ops import recurrent

pytestmark = pytest.mark.needs("jax")
# gates, states and biases
KINDS = {"rnn": (1, 1, (1,)), "lstm": (4, 2, (4,)), "gru": (3, 1, (3, 1))}
BACKWARD: Any = {
    "rnn": recurrent.rnn_backward,
    "lstm": recurrent.lstm_backward,
    "gru": recurrent.gru_backward,
}
each_kind = pytest.mark.parametrize("name", KINDS)
ROWS, FEATURES, UNITS = 3, 4, 5


def drawn(name: str, steps: int = 6) -> tuple[list[Any], Any]:
    """Arguments of an op but for the mask, and a mask of which one row is False throughout."""
    rng, (gates, states, biases) = np.random.default_rng(0), KINDS[name]
    shapes = [
        (ROWS, steps, FEATURES),
        *[(ROWS, UNITS)] * states,
        (FEATURES, gates * UNITS),
        (UNITS, gates * UNITS),
        *[(count * UNITS,) for count in biases],
    ]
    jnp = importlib.import_module("jax.numpy")
    mask = rng.random((ROWS, steps)) < np.array([[0.7], [0.0], [1.0]])
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes], jnp.asarray(mask)


def backward(name: str, given: list[Any], results: tuple[Any, ...], dy: Any, mask: Any) -> tuple[Any, ...]:
    """The gradients of all arguments, in their order."""
    biases = len(KINDS[name][2])
    return as_tuple(BACKWARD[name](dy, *given[:-biases], *results, mask))


@pytest.mark.quick(lambda name, masked: name == "gru" and masked)
@each_kind
@pytest.mark.parametrize("masked", [False, True])
def test_backward_is_the_derivative_that_jax_takes(jax: Any, name: str, masked: bool) -> None:
    given, mask = drawn(name)
    mask = mask if masked else None
    op = getattr(recurrent, name)
    results, pull = jax.vjp(lambda *given: as_tuple(op(*given, mask)), *given)
    dy = jax.numpy.asarray(np.random.default_rng(1).normal(size=results[0].shape))
    expected = pull((dy, *map(jax.numpy.zeros_like, results[1:])))
    found = backward(name, given, results, dy, mask)
    for got, want in nonempty(zip(found, expected, strict=True)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@each_kind
def test_a_compiled_function_is_no_longer_for_more_steps(jax: Any, name: str) -> None:
    """Nor is the time that XLA takes to compile it."""
    op = getattr(recurrent, name)

    def both(given: list[Any], mask: Any) -> Any:
        results = as_tuple(op(*given, mask))
        return results, backward(name, given, results, results[0], mask)

    lengths = []
    for steps in (3, 200):
        given, mask = drawn(name, steps)
        lengths.append(len(jax.jit(both).lower(given, mask).as_text().splitlines()))
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, (_, states, _) in KINDS.items() for place in range(1, states + 1)]
)
def test_a_state_of_another_number_of_rows_is_left_to_the_generic_op(jax: Any, name: str, place: int) -> None:
    """The state of a compiled loop must not change its shape."""
    given, mask = drawn(name, 2)
    given[place] = given[place][:1]
    (kernel,) = dispatch.kernels_for(array_namespace(jax.numpy.zeros(1)))[name]
    assert kernel(*given, mask) is DECLINE


@each_kind
def test_masks_are_booleans_of_each_step(jax: Any, name: str) -> None:
    given, mask = drawn(name, 2)
    (kernel,) = dispatch.kernels_for(array_namespace(jax.numpy.zeros(1)))[name]
    for other in (mask.astype(int), mask[:, :1], np.asarray(mask)):
        assert kernel(*given, other) is DECLINE
