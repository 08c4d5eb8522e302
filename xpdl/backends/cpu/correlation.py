"""Correlations that make up a convolution and its gradients, as the algorithms are given them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import thread_pool

# Rows and columns of an array, as slices with a start and a step.
Slices = tuple[slice, slice]
WHOLE: Slices = slice(0, None, 1), slice(0, None, 1)

B = TypeVar("B")


class Correlation(NamedTuple):
    """A correlation of images (H, C, W, N), images innermost in memory.

    ``out[i, f, j, n] = b[f] + sum over u, v, c of weights[f, u, v, c] src[i sh + u dh - ph, c, j sw + v dw - pw, n]``,
    where `src` is 0 outside its range; `pad` may be negative, and `out` may have more than there are windows.

    Attributes
    ----------
    src : array (H, C, W, N)
    weights : array (F, FH, FW, C) or None
        Without them nothing is written to `out`.
    size, stride, pad, dilation : (int, int)
        `size` is (FH, FW).
    out : array (OH, F, OW, N)
    b : array (F,), optional
    relu : bool
        Whether negative values become 0.
    dw_operand : array of the shape of `out`, optional
        Asks the tasks for what is to be summed for
        ``sum over i, j, n of src[i sh + u dh - ph, c, j sw + v dw - pw, n] dw_operand[i, f, j, n]``.
    partials : list, optional
        Empty; the tasks fill it with that, an array (FH * FW * C, F) of each block.
    out_slices : (slice, slice)
        The rows and columns of `out` and `dw_operand` that alone count in all of this.
    """

    src: NDArray
    weights: NDArray | None
    size: Pair
    out: NDArray
    stride: Pair
    pad: Pair
    dilation: Pair
    b: NDArray | None = None
    relu: bool = False
    dw_operand: NDArray | None = None
    partials: list[NDArray] | None = None
    out_slices: Slices = WHOLE

    def counted(self, array: NDArray) -> NDArray:
        """The rows and columns that count, of `out` or `dw_operand`."""
        return array[self.out_slices[0], :, self.out_slices[1]]

    @property
    def arrays(self) -> list[NDArray]:
        """The images that are read and written."""
        return [x for x in (self.src, self.out, self.dw_operand) if x is not None]

    def tasks(self, work: Callable[[B], NDArray | None], blocks: Iterable[B]) -> list[thread_pool.Task]:
        """One task for each block: `work`, which returns the block's partial sum if there is a `dw_operand`."""
        blocks, partials = list(blocks), self.partials
        if partials is not None:
            partials.extend([self.src] * len(blocks))  # until the tasks have put theirs there

        def task(place: int, block: B) -> None:
            partial = work(block)
            if partials is not None and partial is not None:
                partials[place] = partial

        return [functools.partial(task, place, block) for place, block in enumerate(blocks)]
