"""``python -m xpdl.gpu_gate``: the tests on a CUDA GPU, then the figures beside PyTorch."""
