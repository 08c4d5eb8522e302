"""Labels in the forms that they come in."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends import asnumpy
from xpdl.errors import ShapeError
from xpdl.plots.style import Values


def labels_of(given: Any, owner: str) -> Values:
    """Integers (N,) from labels (N,), or from one-hot rows or scores (N, K)."""
    array = asnumpy(given)
    if array.ndim == 2:
        array = array.argmax(axis=1)
    if array.ndim != 1:
        raise ShapeError(f"{owner}: expected labels (N,), or rows (N, K), got shape {array.shape}")
    return array.astype(np.int64)
