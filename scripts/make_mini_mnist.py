"""Draw the small set of digits in the package from the whole MNIST: ``XPDL_DATA=... python scripts/make_mini_mnist.py``.

As many images of each digit, drawn without replacement by a generator of fixed seed, training images from the training set
and test images from the test set. Prints the hash that xpdl/data/mnist.py keeps; it is the same again where zlib compresses
alike.
"""

import hashlib
from pathlib import Path

import numpy as np

import xpdl

SEED = 2016
TRAIN, TEST = 6000, 1000


def drawn(x, t, count, rng):
    rows = np.concatenate([rng.choice(np.flatnonzero(t == digit), count // 10, replace=False) for digit in range(10)])
    rng.shuffle(rows)
    return x[rows, 0], t[rows].astype(np.uint8)


def mini_set():
    """The arrays of the small set by their names in the file."""
    rng = np.random.default_rng(SEED)
    (x_train, t_train), (x_test, t_test) = xpdl.load_mnist(normalize=False, flatten=False)
    arrays = (*drawn(x_train, t_train, TRAIN, rng), *drawn(x_test, t_test, TEST, rng))
    return dict(zip(("x_train", "t_train", "x_test", "t_test"), arrays, strict=True))


def main():
    path = Path(__file__).parents[1] / "xpdl" / "data" / "mini_mnist.npz"
    np.savez_compressed(path, **mini_set())  # stamps its members with a fixed date
    print(f"{path.name}: {path.stat().st_size} bytes, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
