"""A model of training steps by several ranks: the schedule of their messages, and what of it the computation hides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: between two ranks of a step, besides gradients: losses and weights, which some losses wait for before they go back
SMALL_MESSAGES = 1


@dataclass(frozen=True)
class Link:
    """A network between ranks.

    Attributes
    ----------
    bandwidth : float
        Bytes a second that a rank sends, and receives at the same time.
    latency : float
        Seconds of a message besides its bytes.
    """

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Gradient:
    """The gradient of one parameter, or a bucket of several.

    Attributes
    ----------
    ready : float
        Seconds since the step began.
    size : int
        Bytes.
    """

    ready: float
    size: int


@dataclass(frozen=True)
class Step:
    """A training step of one rank without messages.

    Attributes
    ----------
    backward_ends, seconds : float
        Since it began; the update lies between the two.
    buckets : sequence of Gradient
        What is added up over all ranks, in this order.
    copy_bandwidth : float
        Bytes a second that a rank's own processor copies and adds of a bucket, while it computes nothing else.
    """

    backward_ends: float
    seconds: float
    buckets: Sequence[Gradient]
    copy_bandwidth: float = math.inf


def in_buckets(gradients: Sequence[Gradient], bucket_bytes: int) -> list[Gradient]:
    """Put gradients, in the order in which they get ready, into buckets of at least so many bytes, as the last has fewer."""
    buckets: list[Gradient] = []
    size, ready = 0, 0.0
    for gradient in gradients:
        size, ready = size + gradient.size, max(ready, gradient.ready)
        if size >= bucket_bytes:
            buckets.append(Gradient(ready, size))
            size, ready = 0, 0.0
    return [*buckets, Gradient(ready, size)] if size else buckets


def ring_seconds(size: int, ranks: int, link: Link) -> float:
    """Return the time of an allreduce around a ring: each rank sends a part of the bytes to the next, twice round."""
    rounds = 2 * (ranks - 1)
    return rounds * (link.latency + size / ranks / link.bandwidth)


def halving_seconds(size: int, ranks: int, link: Link) -> float:
    """Return the time of an allreduce by recursive halving and doubling; ranks beyond a power of two exchange all before."""
    power = 1 << (ranks.bit_length() - 1)
    rounds = 2 * (power.bit_length() - 1)
    seconds = rounds * link.latency + 2 * (power - 1) / power * size / link.bandwidth
    return seconds if power == ranks else seconds + 2 * (link.latency + size / link.bandwidth)


ALGORITHMS = {"ring": ring_seconds, "halving": halving_seconds}


def schedule(step: Step, ranks: int, link: Link, algorithm: str = "ring") -> Iterator[tuple[float, float]]:
    """Yield begin and end of the sum of each bucket: it waits for its gradients, and for the sum before it."""
    small = SMALL_MESSAGES * math.ceil(math.log2(ranks)) * link.latency
    copied, free = small, 0.0
    for bucket in step.buckets:
        copied += bucket.size / step.copy_bandwidth
        begin = max(bucket.ready + copied, free)
        free = begin + ALGORITHMS[algorithm](bucket.size, ranks, link)
        yield begin, free


def step_seconds(step: Step, ranks: int, link: Link, algorithm: str = "ring") -> float:
    """Return the time of a step in which every rank has as many rows as one process in `step`."""
    if ranks == 1:
        return step.seconds
    small = SMALL_MESSAGES * math.ceil(math.log2(ranks)) * link.latency
    copies = sum(bucket.size for bucket in step.buckets) / step.copy_bandwidth
    computed = step.backward_ends + small + copies
    sums = [end for _, end in schedule(step, ranks, link, algorithm)]
    return max(computed, *sums) + step.seconds - step.backward_ends


def efficiency(step: Step, ranks: int, link: Link, algorithm: str = "ring") -> float:
    """Return rows a second of each rank, as a share of those of one process alone."""
    return step.seconds / step_seconds(step, ranks, link, algorithm)
