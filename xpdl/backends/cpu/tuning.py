"""Sizes from which another way of computing is faster, with the measurement behind each."""

from __future__ import annotations

# Elements below which a pass over memory takes less time than a look at the memory order of the arrays.
SMALL_ARRAY = 1 << 13
# Parameters above which optimizers are compiled: loading Numba takes half a second, in which small networks make many steps.
COMPILED_PARAMETERS = 1 << 17
# Parameters above which compiled optimizers use threads, which wait for each other for about 0.1 ms.
SHARED_PARAMETERS = 1 << 19
