"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import affine, convolution, elementwise, losses, masks, normalization, optimizers, pooling

__all__ = ["affine", "convolution", "elementwise", "losses", "masks", "normalization", "optimizers", "pooling"]
