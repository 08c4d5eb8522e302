"""Parts of steps that threads do together: each once, and in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import nonempty

pytestmark = pytest.mark.needs("numba")


@pytest.mark.parametrize("workers", range(1, 6))
@pytest.mark.parametrize("parts", range(1, 9))
def test_every_worker_looks_at_all_parts_and_at_its_own_first(workers: int, parts: int) -> None:
    from xpdl.backends.numba import lockstep

    part_of: Any = lockstep.part_of
    for worker in nonempty(range(workers)):
        order = [part_of.py_func(worker, workers, parts, turn) for turn in range(parts)]
        own = range(parts * worker // workers, parts * (worker + 1) // workers)
        assert sorted(order) == [*range(parts)] and sorted(order[: len(own)]) == [*own]


def test_part_is_claimed_once_and_counted() -> None:
    import numba

    from xpdl.backends.numba.lockstep import board, claim, finish, wait_for

    @numba.njit
    def twice(claimed, done):  # type: ignore[no-untyped-def]
        first, again, other = claim(claimed, 1, 2), claim(claimed, 1, 2), claim(claimed, 1, 0)
        finish(done, 1)
        finish(done, 1)
        wait_for(done, 1, 2)  # returns at once
        return first, again, other

    claimed, done = board(3, 4)
    assert twice(claimed, done) == (True, False, True)
    assert claimed.tolist() == [[0] * 4, [1, 0, 1, 0], [0] * 4] and done.tolist() == [[0], [2], [0]]
