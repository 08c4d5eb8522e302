"""Run the real CuPy without a GPU: the CUDA runtime, driver and libraries below it are replaced. See README.md."""
