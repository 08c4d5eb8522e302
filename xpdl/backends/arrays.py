"""Names of types that kernels of all libraries share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

NDArray: TypeAlias = np.ndarray[Any, Any]
# along H and W
Pair: TypeAlias = tuple[int, int]
