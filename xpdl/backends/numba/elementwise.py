"""Gradients of activations, and masks: loops over arrays of one axis, from which LLVM makes vectors without a branch."""

from __future__ import annotations

from typing import Any

from xpdl.backends.numba.jit import compiled


@compiled
def relu_backward(dy: Any, y: Any, dx: Any) -> None:
    for k in range(len(dx)):
        dx[k] = dy[k] if y[k] > 0 else 0


@compiled
def dropout(x: Any, mask: Any, scale: Any, y: Any) -> None:
    for k in range(len(y)):
        y[k] = x[k] * scale if mask[k] else 0
