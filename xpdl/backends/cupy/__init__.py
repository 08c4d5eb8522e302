"""CUDA kernels for CuPy arrays; importing this package registers them.

It imports CuPy at the first launch only, so that what needs no GPU can be read and tested without one.
"""

from xpdl.backends.cupy import (
    affine,
    attention,
    convolution,
    elementwise,
    embedding,
    joining,
    loss_scaling,
    losses,
    normalization,
    optimizers,
    pooling,
    positional,
    recurrent,
    row_normalization,
    softmax,
    windows,
)

__all__ = [
    "affine",
    "attention",
    "convolution",
    "elementwise",
    "embedding",
    "joining",
    "loss_scaling",
    "losses",
    "normalization",
    "optimizers",
    "pooling",
    "positional",
    "recurrent",
    "row_normalization",
    "softmax",
    "windows",
]
