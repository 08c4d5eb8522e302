"""Schedules of messages beside those worked out by hand."""

import math

import numpy as np
import pytest

from xpdl.bench.distributed_model import (
    Gradient,
    Link,
    Step,
    efficiency,
    halving_seconds,
    in_buckets,
    ring_seconds,
    schedule,
    step_seconds,
)
from xpdl.distributed import Communicator
from xpdl.distributed.buckets import Buckets

# 100 bytes a second, 0.5 s a message: seconds that can be added up by hand
LINK = Link(100.0, 0.5)
GRADIENTS = [Gradient(3.0, 200), Gradient(4.0, 100), Gradient(6.0, 400), Gradient(6.5, 50)]


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        (1, GRADIENTS),
        (300, [Gradient(4.0, 300), Gradient(6.0, 400), Gradient(6.5, 50)]),
        (301, [Gradient(6.0, 700), Gradient(6.5, 50)]),
        (750, [Gradient(6.5, 750)]),
        (9999, [Gradient(6.5, 750)]),
    ],
)
def test_buckets_are_full_as_soon_as_they_have_so_many_bytes(least, expected):
    assert in_buckets(GRADIENTS, least) == expected
    assert in_buckets([], least) == []


@pytest.mark.parametrize(
    ("ranks", "ring", "halving"),
    [
        # 2 (ranks - 1) messages of 400 / ranks bytes
        (2, 2 * (0.5 + 2.0), 2 * 0.5 + 4.0),
        (4, 6 * (0.5 + 1.0), 4 * 0.5 + 6.0),
        (8, 14 * (0.5 + 0.5), 6 * 0.5 + 7.0),
        # as of 2 ranks, after all 400 bytes from the third, and before all to it
        (3, 4 * (0.5 + 4 / 3), 2 * 0.5 + 4.0 + 2 * (0.5 + 4.0)),
    ],
)
def test_sums_take_rounds_of_latency_and_bytes(ranks, ring, halving):
    assert ring_seconds(400, ranks, LINK) == pytest.approx(ring)
    assert halving_seconds(400, ranks, LINK) == pytest.approx(halving)


# two ranks: losses take a message of 0.5 s, a bucket of n bytes 1 + n / 100 s
CASES = {
    "hidden": ([Gradient(2.0, 100), Gradient(6.0, 50)], math.inf, [(2.5, 4.5), (6.5, 8.0)], 9.5),
    "one waits for the other": ([Gradient(2.0, 700), Gradient(6.0, 50)], math.inf, [(2.5, 10.5), (10.5, 12.0)], 13.0),
    "all at the end": ([Gradient(8.0, 300)], math.inf, [(8.5, 12.5)], 13.5),
    # 1 s and 0.5 s of copies, which the computation waits for
    "copied": ([Gradient(2.0, 100), Gradient(6.0, 50)], 100.0, [(3.5, 5.5), (8.0, 9.5)], 11.0),
}


@pytest.mark.parametrize("case", CASES)
def test_schedule_by_hand(case):
    buckets, copy_bandwidth, expected, seconds = CASES[case]
    step = Step(8.0, 9.0, buckets, copy_bandwidth)
    assert [*schedule(step, 2, LINK)] == expected
    assert step_seconds(step, 2, LINK) == pytest.approx(seconds)
    assert efficiency(step, 2, LINK) == pytest.approx(9.0 / seconds)
    assert step_seconds(step, 1, LINK) == 9.0


def test_bound_of_a_fast_and_of_a_slow_network():
    step = Step(8.0, 9.0, GRADIENTS)
    assert efficiency(step, 1024, Link(math.inf, 0.0)) == 1.0
    slow = [efficiency(step, ranks, Link(1.0, 0.0)) for ranks in (2, 8, 64, 1024)]
    assert slow == sorted(slow, reverse=True)
    # all bytes twice but for the own part, from the first bucket on
    assert slow[-1] == pytest.approx(9.0 / (3.0 + 2 * 1023 / 1024 * 750 + 1.0))


def test_buckets_are_those_of_the_communicator():
    class Recorded(Communicator):
        bucket_bytes = 300

        def start_sum(self, values, **options):
            sizes.append(values.nbytes)
            return super().start_sum(values, **options)

    sizes: list[int] = []
    arrays = {name: np.zeros(size // 4, np.float32) for name, size in zip("dcba", (48, 400, 100, 200), strict=True)}
    Buckets(Recorded()).reduce(arrays)
    assert sizes == [
        bucket.size for bucket in in_buckets([Gradient(0.0, a.nbytes) for a in reversed(arrays.values())], 300)
    ]
