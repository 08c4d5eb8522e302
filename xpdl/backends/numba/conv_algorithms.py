"""The algorithms of a convolution in compiled code, beside those in NumPy's functions, which some cases are faster by."""

from __future__ import annotations

from xpdl.backends.cpu import choose_algorithm as choice
from xpdl.backends.cpu.conv_tasks import Implementations
from xpdl.backends.numba import im2col_rows, im2col_small_batch, winograd_2d
from xpdl.backends.numpy import conv_algorithms as pure

IMPLEMENTATIONS = Implementations(
    compiled=True,
    of_images=im2col_small_batch.convolution,
    of_correlations={
        **pure.IMPLEMENTATIONS.of_correlations,
        choice.WINOGRAD_2D: winograd_2d.correlation,
        choice.COMPILED_ROWS: im2col_rows.correlation,
    },
)
