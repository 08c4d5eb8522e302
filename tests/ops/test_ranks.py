"""Signals, volumes and one-sided borders: the kernels for images compute them, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpdl.backends import decisions
from xpdl.backends.dispatch import kernels_for
from xpdl.backends.namespaces import array_namespace
from xpdl.ops import convolution as conv
from xpdl.ops import pooling

IMAGES = {"stride": (1, 1), "pad": (1, 1), "dilation": (1, 1)}
# shape, size of a window, and options
FORMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "signals": ((2, 3, 8), (3,), {"stride": (2,), "pad": (1,), "dilation": (1,)}),
    "volumes": ((2, 3, 4, 5, 6), (2, 3, 3), {"stride": (1, 2, 1), "pad": (1, 1, 0), "dilation": (1, 1, 1)}),
    "one-sided": ((2, 3, 6, 5), (3, 3), {**IMAGES, "pad": ((0, 1), (1, 2))}),
}


def convolved(x: Any, size: tuple[int, ...], options: dict[str, Any]) -> None:
    W = np.ones((4, x.shape[1], *size))
    y = conv.convolution(x, W, **options)
    conv.convolution_backward(np.ones_like(y), x, W, **options)


def largest(x: Any, size: tuple[int, ...], options: dict[str, Any]) -> None:
    y = pooling.max_pooling(x, size, **options)
    pooling.max_pooling_backward(np.ones_like(y), x, y, size, **options)


def computed(run: Any, *args: Any) -> tuple[set[str], set[str]]:
    """Names of the ops that kernels computed, and of those that the generic form did."""
    by_kernel: set[str] = set()
    by_generic: set[str] = set()

    def listener(kind: str, *decision: Any) -> None:
        if kind == "op":
            name, function, kernels = decision
            (by_kernel if function in kernels else by_generic).add(name)

    with decisions.listening(listener):
        run(*args)
    return by_kernel, by_generic


@pytest.mark.parametrize("run", [convolved, largest])
@pytest.mark.parametrize("form", FORMS)
def test_kernels_for_images_compute_them(form: str, run: Any) -> None:
    shape, size, options = FORMS[form]
    by_kernel, by_generic = computed(run, np.ones(shape), size, options)
    # the generic form reduces each, and calls the op again
    assert by_generic and by_kernel == by_generic


@pytest.mark.parametrize("form", FORMS)
def test_kernels_decline_them(form: str) -> None:
    shape, size, options = FORMS[form]
    kernels = kernels_for(array_namespace(np.ones(1)))
    x, W = np.ones(shape), np.ones((4, 3, *size))
    y = conv.convolution(x, W, **options)
    pooled = pooling.max_pooling(x, size, **options)
    calls = {
        "convolution": ((x, W), options),
        "convolution_backward": ((y, x, W), options),
        "max_pooling": ((x, size), options),
        "max_pooling_backward": ((pooled, x, pooled, size), options),
        "average_pooling": ((x, size), options),
        "average_pooling_backward": ((pooled, x, size), options),
    }
    taken = [name for name, (args, kw) in calls.items() for k in kernels[name] if repr(k(*args, **kw)) != "DECLINE"]
    assert taken == [] and kernels["convolution"]
