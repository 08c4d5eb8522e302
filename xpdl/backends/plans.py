"""Plans that a library makes for each size of batch, made before the batch is there."""

from __future__ import annotations

import importlib

from xpdl.backends import Backend


def plan_batches(backend: Backend, rows: int, others: int) -> None:
    """Have what is planned for batches of `rows` rows on the device of `backend` planned for `others`, too."""
    if backend.name == "cupy":
        importlib.import_module("xpdl.backends.cupy.cudnn").plan_batches(rows, others)
