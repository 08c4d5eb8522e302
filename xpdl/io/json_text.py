"""JSON of files that anybody may have written."""

from __future__ import annotations

import json
from typing import Any


def loads(content: str | bytes) -> Any:
    """Parse JSON.

    Raises
    ------
    json.JSONDecodeError
        If it is none, or has lists within lists beyond Python's recursion limit.
    UnicodeDecodeError
        If its bytes are no text; a `ValueError` as well.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise json.JSONDecodeError("lists within lists within lists", "", 0) from None
