"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import convolution, elementwise, pooling

__all__ = ["convolution", "elementwise", "pooling"]
