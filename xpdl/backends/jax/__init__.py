"""Kernels for JAX's arrays by the operators of `jax.lax`; importing this package registers them.

All other ops run their generic form, each compiled as one: see ``generic.py``.
"""

from xpdl.backends.jax import convolution, dropout, optimizers, pooling, recurrent

__all__ = ["convolution", "dropout", "optimizers", "pooling", "recurrent"]
