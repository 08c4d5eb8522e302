"""Buckets of gradients: the order in which their sums begin, beside the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xpdl.distributed import Communicator
from xpdl.distributed.buckets import Buckets
from xpdl.layers import Affine, IdentityWithLoss, Tanh
from xpdl.models import Sequential
from xpdl.training.overlap import overlapping

X = np.random.default_rng(0).normal(size=(4, 3))


class Twice(Communicator):
    """Two ranks with equal values; notes what happens."""

    def __init__(self, bucket_bytes: int, events: list[Any]) -> None:
        self.bucket_bytes, self.events = bucket_bytes, events

    def start_sum(self, values: Any, *, scattered: bool = False) -> Callable[[], Any]:
        self.events.append(values.size)
        sent = values.copy()

        def wait() -> Any:
            np.testing.assert_array_equal(values, sent)  # not changed on the way
            return 2 * sent

        return wait


class Loud(Tanh):
    events: list[Any]

    def backward(self, dout: Any) -> Any:
        self.events.append("back")
        return super().backward(dout)


def parts(bucket_bytes: int, kind: type[Sequential] = Sequential) -> tuple[Any, Buckets, list[Any]]:
    events: list[Any] = []
    loud = Loud()
    loud.events = events
    net = kind(Affine(units=5), loud, Affine(units=2), Tanh(), Affine(units=2), loss=IdentityWithLoss, seed=0)
    net.build((3,))
    return net, Buckets(Twice(bucket_bytes, events)), events


def step(net: Any, buckets: Buckets, x: Any = X, is_idle: bool = False) -> tuple[Any, Any]:
    with overlapping(net, buckets, as_zeros=is_idle):
        grads = net.gradient(x, np.zeros((len(x), 2)))
    return grads, buckets.reduce(grads)


class Changes(Sequential):
    """A network whose gradients are not those of the backward pass."""

    def gradient(self, *args: Any) -> Any:
        grads = super().gradient(*args)
        for grad in grads.values():
            grad += 1
        return grads


@pytest.mark.parametrize(
    ("bucket_bytes", "kind", "events"),
    [
        # float32: Affine3 has 6 values, Affine2 has 12, Affine1 has 20
        (1, Sequential, [2, 4, 2, 10, "back", 5, 15]),
        (4 * 12, Sequential, [18, "back", 20]),
        (10**6, Sequential, ["back", 38]),
        (1, Changes, ["back", 2, 4, 2, 10, 5, 15]),
    ],
)
def test_sums_of_later_layers_begin_before_earlier_ones_go_back(
    bucket_bytes: int, kind: type[Sequential], events: list[Any]
) -> None:
    net, buckets, found = parts(bucket_bytes, kind)
    for _ in range(3):
        grads, sums = step(net, buckets)
        assert sums.keys() == grads.keys()
        for name, grad in grads.items():
            np.testing.assert_array_equal(sums[name], 2 * grad, err_msg=name)
    # the layout is that of the first step's gradients
    assert found[-len(events) :] == events
    assert net.after_backward is None


def test_rows_that_count_for_nothing_are_zeros() -> None:
    net, buckets, _ = parts(1)
    step(net, buckets)
    with overlapping(net, buckets, as_zeros=True):
        grads = net.gradient(X, np.zeros((4, 2)))
    sums = buckets.reduce({name: np.zeros_like(grad) for name, grad in grads.items()})
    assert all(not total.any() for total in sums.values())


def test_sums_of_a_step_that_broke_off_are_not_those_of_the_next() -> None:
    net, buckets, found = parts(1)
    step(net, buckets)
    first = net.layers["Affine1"]
    backward = first.backward_parameters
    first.backward_parameters = lambda dout: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        step(net, buckets, X + 1)
    assert found[-1] == "back" and net.after_backward is None
    first.backward_parameters = backward  # type: ignore[method-assign]
    grads, sums = step(net, buckets)
    for name, grad in grads.items():
        np.testing.assert_array_equal(sums[name], 2 * grad, err_msg=name)


def test_arrays_of_several_dtypes_and_new_ones_have_buckets_of_their_own() -> None:
    _, buckets, found = parts(10**6)
    arrays = {"a": np.ones(3), "b": np.full((2, 2), 2, np.float32), "c": np.full((), 3.0), "d": np.zeros((0, 4))}
    for given in (arrays, {**arrays, "e": np.ones(5, np.float16)}, {"a": np.ones((3, 1))}):
        sums = buckets.reduce(given)
        assert {name: (total.shape, total.dtype) for name, total in sums.items()} == {
            name: (a.shape, a.dtype) for name, a in given.items()
        }
        for name, a in given.items():
            np.testing.assert_array_equal(sums[name], 2 * a)
    assert found == [4, 4, 5, 4, 4, 3]


@pytest.mark.backends("plain")
def test_sums_come_in_the_library_of_the_gradients(backend: Any) -> None:
    _, buckets, _ = parts(8)
    for _ in range(2):
        given = {"a": backend.asarray(np.arange(6.0).reshape(2, 3)), "b": backend.asarray(np.ones(2))}
        sums = buckets.reduce(given)
        assert [type(total) for total in sums.values()] == [type(a) for a in given.values()]
        np.testing.assert_array_equal(backend.to_numpy(sums["a"]), 2 * np.arange(6.0).reshape(2, 3))
