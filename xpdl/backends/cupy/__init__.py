"""CUDA kernels for CuPy arrays; importing this package registers them.

It imports CuPy at the first launch only, so that what needs no GPU can be read and tested without one.
"""

from xpdl.backends.cupy import (
    affine,
    convolution,
    elementwise,
    loss_scaling,
    losses,
    normalization,
    optimizers,
    pooling,
    recurrent,
    windows,
)

__all__ = [
    "affine",
    "convolution",
    "elementwise",
    "loss_scaling",
    "losses",
    "normalization",
    "optimizers",
    "pooling",
    "recurrent",
    "windows",
]
