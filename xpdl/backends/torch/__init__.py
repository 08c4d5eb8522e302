"""Kernels for PyTorch's tensors by its own operators, on any of its devices; importing this package registers them.

They compute with values: a tensor that autograd is to differentiate is left to the generic ops.
"""

from xpdl.backends.torch import affine, convolution, dropout, elementwise, losses, normalization, optimizers, pooling

__all__ = ["affine", "convolution", "dropout", "elementwise", "losses", "normalization", "optimizers", "pooling"]
