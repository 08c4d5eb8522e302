"""Threads, memory and partitions that the kernels of `numpy` and `numba` share."""
