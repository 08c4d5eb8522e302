"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import (
    affine,
    convolution,
    dropout,
    elementwise,
    gru,
    losses,
    normalization,
    optimizers,
    pooling,
    recurrent,
)

__all__ = [
    "affine",
    "convolution",
    "dropout",
    "elementwise",
    "gru",
    "losses",
    "normalization",
    "optimizers",
    "pooling",
    "recurrent",
]
