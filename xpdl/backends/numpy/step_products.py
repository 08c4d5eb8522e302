"""Products of a few rows with the same weights, step after step: the weights are packed once for all steps.

OpenBLAS copies both matrices before it multiplies, unless they are small: of few rows and many weights, the copy takes
longer than the products. Weights are cut into panels that BLAS multiplies as they lie, one call of `numpy.matmul` for all.

On one core of an EPYC with AVX-512, 20 rows by weights (256, 1024) take 46 us instead of 117, and by the transposed ones
50 instead of 145; by (650, 2600) 300 us instead of 490, and by the transposed ones 320 instead of 930.
"""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.tuning import TUNING


class StepProduct:
    """Multiplies ``a W`` for `a` (rows, K), again and again.

    Parameters
    ----------
    W : array (K, M), in any memory order
    rows, steps : int
        Rows of a product, and the number of products.
    """

    def __init__(self, W: NDArray, rows: int, steps: int) -> None:
        # one row is multiplied as it is
        packed = rows > 1 and steps >= TUNING.recurrent_packed_steps
        length, columns = W.shape
        parts, width = panels(rows, length, columns) if packed else (1, columns)
        if (parts, width) == (1, columns):
            # where columns do not lie side by side, a product takes up to three times as long
            self.weights = np.ascontiguousarray(W) if packed else W
        else:
            cut = W.reshape(parts, length // parts, columns // width, width)
            self.weights = np.ascontiguousarray(cut.swapaxes(1, 2))

    def __call__(self, a: NDArray, out: NDArray) -> None:
        """Fill `out` (rows, M)."""
        if self.weights.ndim == 2:
            np.matmul(a, self.weights, out=out)
            return
        parts, count, length, width = self.weights.shape
        products = np.matmul(a.reshape(len(a), parts, 1, length).transpose(1, 2, 0, 3), self.weights)
        np.add.reduce(products, axis=0, out=out.reshape(len(a), count, width).swapaxes(0, 1))


def panels(rows: int, length: int, columns: int) -> tuple[int, int]:
    """The parts that products over `length` are cut into, and the columns of a panel, which divide all `columns`."""
    if rows > TUNING.recurrent_panel_rows:
        return 1, columns
    for parts in (part for part in (1, 2, 4) if length % part == 0):
        most = TUNING.gemm_unpacked_products * parts // (rows * length)
        if most >= columns:
            return parts, columns
        widths = (w for w in range(min(most, TUNING.recurrent_columns), TUNING.recurrent_few_columns - 1, -1))
        width = next((w for w in widths if columns % w == 0), 0)
        if width:
            return parts, width
    return 1, columns
