"""A rank's share of a batch: the exchange of losses, and the factor of its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xpdl.distributed import Communicator
from xpdl.layers.share import BatchShare


class Second(Communicator):
    """Rank 1 of three, of which the others send these losses and weights, once this one waits for them."""

    rank, size = 1, 3

    def __init__(self, first: tuple[float, float], third: tuple[float, float]) -> None:
        self.first, self.third, self.waits = first, third, 0

    def start_gather(self, values: Any) -> Callable[[], Any]:
        def wait() -> Any:
            self.waits += 1
            return np.array([self.first, values, self.third])

        return wait


@pytest.mark.parametrize(
    ("weight", "span", "others", "factor", "waits", "loss", "total"),
    [
        # a mean over rows needs no answer
        (3, (4, 7), [(0.5, 4.0), (2.0, 3.0)], 3 / 10, 0, (0.5 * 4 + 1.0 * 3 + 2.0 * 3) / 10, 10.0),
        # weights of rows are known to their rank alone
        (np.asarray(1.5), (4, 7), [(0.5, 4.0), (2.0, 0.5)], 1.5 / 6, 1, (0.5 * 4 + 1.0 * 1.5 + 2.0 * 0.5) / 6, 6.0),
        (np.asarray(0.0), (4, 7), [(0.0, 0.0), (0.0, 0.0)], 0.0, 1, 0.0, 0.0),
        # a mean over several values of a row
        (12, (4, 7), [(0.5, 16.0), (2.0, 12.0)], 12 / 40, 1, (0.5 * 16 + 1.0 * 12 + 2.0 * 12) / 40, 40.0),
        # a rank without rows computes one that counts for nothing
        (1, (4, 4), [(0.5, 4.0), (2.0, 6.0)], 0.0, 0, (0.5 * 4 + 2.0 * 6) / 10, 10.0),
        (np.asarray(2.0), (4, 4), [(0.5, 4.0), (2.0, 6.0)], 0.0, 0, (0.5 * 4 + 2.0 * 6) / 10, 10.0),
    ],
)
def test_exchange_waits_where_the_factor_depends_on_other_ranks(
    weight: Any, span: tuple[int, int], others: Any, factor: float, waits: int, loss: float, total: float
) -> None:
    ranks = Second(*others)
    share = BatchShare(10, ranks, span)
    assert not share.is_exchanged
    assert share.exchange(np.asarray(1.0), weight) == pytest.approx(factor, abs=0.0)
    assert ranks.waits == waits and share.is_exchanged
    share.finish()
    share.finish()
    assert ranks.waits == 1 and share.factor == pytest.approx(factor, abs=0.0)
    assert share.loss == pytest.approx(loss, rel=1e-15) and share.weight == total


def test_ranks_that_weigh_rows_in_different_ways_are_refused() -> None:
    share = BatchShare(10, Second((0.5, 1.25), (2.0, 3.0)), (4, 7))
    share.exchange(1.0, 3)
    expected = r"ranks weigh the rows of a batch in different ways, by \[1\.25, 3\.0, 3\.0\] for 10 rows; give sample"
    with pytest.raises(RuntimeError, match=expected):
        share.finish()
