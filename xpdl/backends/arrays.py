"""Names of types that kernels of all libraries share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # any Array-API array
Namespace: TypeAlias = Any  # any Array-API namespace
DType: TypeAlias = Any
NDArray: TypeAlias = np.ndarray[Any, Any]
HostArray = np.ndarray  # ``type(x) is HostArray``: the quickest look at an array of the host
# along H and W
Pair: TypeAlias = tuple[int, int]
# along each axis of windows: on both sides, or (before, after)
Pads: TypeAlias = tuple[int | Pair, ...]
