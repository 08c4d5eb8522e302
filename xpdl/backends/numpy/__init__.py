"""CPU kernels for NumPy arrays; importing this package registers them."""

from xpdl.backends.numpy import convolution

__all__ = ["convolution"]
