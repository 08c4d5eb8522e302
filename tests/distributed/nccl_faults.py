"""Wrong ways to call NCCL, and the claim of ``nccl_claims`` that each of them breaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

_SUMS = "sums_are_those_of_the_terms_and_the_same_on_all_ranks"
#: what is done wrong -> the claim
FAULTS = {
    "a sum does not wait for the computation": _SUMS,
    "the computation does not wait for a sum": _SUMS,
    "another part is written": _SUMS,
    "rows go to other ranks": "half_precision_is_added_up_in_float32_in_the_order_of_the_ranks",
    "half precision is added up by NCCL": "half_precision_is_added_up_in_float32_in_the_order_of_the_ranks",
    "no groups": "weights_of_rank_0_are_broadcast_in_one_group",
    "sums begin after the backward pass": "buckets_go_during_the_backward_pass_the_last_layer_first",
}


@contextlib.contextmanager
def planted(what: str) -> Iterator[None]:
    """Do something wrong inside."""
    from xpdl.backends.cupy import lane, nccl
    from xpdl.distributed.buckets import Buckets

    exchange = nccl.Collectives.exchange

    @contextlib.contextmanager
    def not_after_compute(self: lane.Lane) -> Iterator[None]:
        with self.device, self.stream:
            yield

    def to_another_part(self: nccl.Collectives, rows: Any, part: Any) -> None:
        other, kind = rows[(self.rank + 1) % self.size], nccl._summed_kind(rows)
        self._comm.reduceScatter(rows.data.ptr, other.data.ptr, part.size, *kind, self.lane.stream.ptr)

    def to_other_ranks(self: nccl.Collectives, sent: Any, received: Any) -> None:
        exchange(self, sent[::-1].copy(), received)

    owner, name, instead = {
        "a sum does not wait for the computation": (lane.Lane, "after_compute", not_after_compute),
        "the computation does not wait for a sum": (lane.Lane, "compute_after", lambda self, event: None),
        "another part is written": (nccl.Collectives, "reduce_scatter", to_another_part),
        "rows go to other ranks": (nccl.Collectives, "exchange", to_other_ranks),
        "half precision is added up by NCCL": (nccl, "sums", lambda dtype: True),
        "no groups": (nccl, "_group", contextlib.nullcontext),
        "sums begin after the backward pass": (Buckets, "put", _put_nothing_early(Buckets.put)),
    }[what]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        yield


def _put_nothing_early(put: Any) -> Any:
    import inspect

    def late(self: Any, name: Any, a: Any, *, as_zeros: bool = False) -> None:
        if inspect.stack()[1].function == "reduce":
            put(self, name, a, as_zeros=as_zeros)

    return late
