"""Checkpoints: the files of a run, and its resumption from them."""
