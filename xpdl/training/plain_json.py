"""JSON that every reader takes: of floats that it has no number for, the strings "NaN", "Infinity" and "-Infinity"."""

from __future__ import annotations

import json
import math
import numbers
import sys
from collections.abc import Mapping
from typing import Any

_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LARGEST = sys.float_info.max


def dumps(value: Any) -> str:
    """`value` in JSON; what JSON has no kind for is written as its ``repr``, for people."""
    return json.dumps(_plain(value), allow_nan=False, default=repr)


def number(value: Any) -> int | float:
    """The number that `dumps` wrote.

    Raises
    ------
    ValueError
        If `value` is no number of a float's range, nor the name of one.
    """
    if type(value) in (int, float) and -_LARGEST <= value <= _LARGEST:
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and value in _NAMES:
        return _NAMES[value]
    raise ValueError(f"{value!r} is no number")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, numbers.Real):
        return value
    value = float(value)
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
