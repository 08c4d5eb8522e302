"""CPU kernels for NumPy arrays; importing this package registers them."""
