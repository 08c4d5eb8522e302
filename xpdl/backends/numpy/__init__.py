"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import (
    affine,
    attention,
    convolution,
    dropout,
    elementwise,
    embedding,
    gelu,
    gru,
    losses,
    lstm,
    normalization,
    optimizers,
    pooling,
    positional,
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
    "gelu",
    "gru",
    "losses",
    "lstm",
    "normalization",
    "optimizers",
    "pooling",
    "positional",
    "recurrent",
    "row_normalization",
]
