"""Kernels for PyTorch's tensors by its own operators, on any of its devices; importing this package registers them.

They compute with values: a tensor that autograd is to differentiate is left to the generic ops.
"""

from xpdl.backends.torch import (
    affine,
    attention,
    convolution,
    dropout,
    elementwise,
    embedding,
    losses,
    normalization,
    optimizers,
    pooling,
    recurrent,
    row_normalization,
)

__all__ = [
    "affine",
    "attention",
    "convolution",
    "dropout",
    "elementwise",
    "embedding",
    "losses",
    "normalization",
    "optimizers",
    "pooling",
    "recurrent",
    "row_normalization",
]
