"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import affine, convolution, dropout, elementwise, losses, normalization, optimizers, pooling

__all__ = ["affine", "convolution", "dropout", "elementwise", "losses", "normalization", "optimizers", "pooling"]
