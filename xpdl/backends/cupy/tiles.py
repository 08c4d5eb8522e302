"""Tiles of arrays in shared memory, and division by the constants of a launch: see ``cuda/tiles.cuh``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from xpdl.backends.arrays import Array
from xpdl.backends.cupy.launch import BLOCK

# As in cuda/tiles.cuh.
TILE_BYTES = 8 << 10
# Blocks that a large GPU runs at once: smaller tiles than these would be of no use.
_BLOCKS = 1 << 10
#: of a launch; a block goes on with further tiles
MOST_BLOCKS = 1 << 16
# Of a pack, as in cuda/packs.cuh, and the most threads of a block for neighbouring columns.
_BYTES, _LANES = 16, 32


class Bands(NamedTuple):
    """A result (planes, rows, columns) cut into bands: so many planes, or so many rows of one plane.

    Attributes
    ----------
    planes, rows : int
        Of a band.
    per_plane : int
        Bands of a plane.
    total : int
        Of bands.
    staged : bool
        Whether a band and what it is computed from fit a tile each.
    """

    planes: int
    rows: int
    per_plane: int
    total: int
    staged: bool


def bands(
    planes: int, result: tuple[int, int], source: tuple[int, int], seen: Callable[[int], int], itemsize: int
) -> Bands:
    """Cut `planes` of (rows, columns) into bands.

    Parameters
    ----------
    planes : int
    result, source : pair of ints
        Rows and columns of a plane of the result, and of what it is computed from.
    seen : function of int
        The most rows of the source for so many rows of the result.
    itemsize : int
    """
    values = TILE_BYTES // itemsize
    (rows, columns), (source_rows, source_columns) = result, source
    most = values // max(rows * columns, source_rows * source_columns)
    if most:
        own = max(1, min(most, planes // _BLOCKS))
        return Bands(own, rows, 1, -(-planes // own), True)
    own = next((k for k in range(min(rows, values // columns), 0, -1) if seen(k) * source_columns <= values), 0)
    in_plane = -(-rows // (own or 1))
    return Bands(1, own or 1, in_plane, planes * in_plane, own > 0)


def divisor(value: int) -> int:
    """Return the arguments of the kernels' function ``quotient`` for a division by `value`, from 1 to 2**31 - 1.

    Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994.
    """
    shift = (value - 1).bit_length()
    multiplier = ((1 << 32) * ((1 << shift) - value)) // value + 1
    return shift << 32 | multiplier


@functools.lru_cache(maxsize=1024)
def row_shares(rows: int, columns: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Grid and block of ``cuda/rows.cuh``: a row has lanes, a power of two, for two columns each or more."""
    lanes = 1
    while lanes < BLOCK and 2 * lanes < columns:
        lanes *= 2
    in_block = BLOCK // lanes
    return (-(-rows // in_block),), (lanes, in_block)


def column_shares(columns: int, *arrays: Array) -> tuple[int, tuple[int, int]]:
    """Number of blocks, and the block, of kernels whose threads have neighbouring columns, in packs if all arrays allow."""
    lanes = _BYTES // arrays[0].dtype.itemsize
    wide = columns % lanes == 0 and not any(a.data.ptr % _BYTES for a in arrays)
    threads = columns // lanes if wide else columns
    # the least power of two that does for few columns
    width = min(_LANES, 1 << (threads - 1).bit_length())
    return -(-threads // width), (width, BLOCK // width)
