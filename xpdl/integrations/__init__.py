"""Bridges to other libraries, each imported by its own name: scikit-learn, state dicts of PyTorch."""
