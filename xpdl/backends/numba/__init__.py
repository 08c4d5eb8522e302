"""CPU kernels compiled by Numba for NumPy arrays, tried before those of `xpdl.backends.numpy` where the extra is installed.

A task of a kernel is here one call that releases the GIL until it ends. NumPy takes the GIL back after each of its
functions, and two threads that work on small arrays wait for each other there. Loops also read their inputs once, where
NumPy's functions pass over memory once each.

`kernels` registers them without loading Numba, which takes half a second; `loading` says what is loaded and why not.
"""


class BlasError(ImportError):
    """NumPy's BLAS cannot be called from compiled code; kernels without matrix products are compiled nevertheless."""
