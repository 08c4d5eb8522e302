"""Shares of a batch among ranks."""

from __future__ import annotations


def share_of(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """Return the first row of a rank's share of a batch and the row after its last.

    Shares are contiguous and in the order of the ranks. Where `ranks` does not divide `rows`, the first ranks have one row
    more; of fewer rows than ranks, the last ranks have none.
    """
    each, more = divmod(rows, ranks)
    start = rank * each + min(rank, more)
    return start, start + each + (rank < more)
