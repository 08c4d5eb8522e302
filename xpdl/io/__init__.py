"""Files: atomic writes, tensors, pickles of the book, locks, and the cache folder."""
