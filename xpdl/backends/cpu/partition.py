"""Partitions of a range of work into tasks.

They depend on shapes alone, not on the number of threads, so results are bitwise identical for any number of them.
"""

from __future__ import annotations

import itertools


def cut(length: int, most: int) -> list[slice]:
    """``range(length)`` in about equal parts of `most` at most."""
    return split(length, -(-length // most))


def halves(length: int, most: int) -> list[slice]:
    """``range(length)`` in `most` parts at most; an even number, so that two threads share it evenly."""
    return split(length, max(1, min(length, most) // 2 * 2))


def pieces(length: int, size: int) -> list[slice]:
    """``range(length)`` in parts of `size`, and what is left as one more."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def split(length: int, count: int) -> list[slice]:
    """``range(length)`` in `count` about equal parts."""
    edges = [length * k // count for k in range(count + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(edges)))
