"""Deprecated name of the GPU report: ``python -m xpdl.gpu_gate`` runs `xpdl.bench.gpu` until the next minor release."""
