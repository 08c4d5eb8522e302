"""Random numbers the library owns: keyed by seed and name, never from a global state of NumPy or any other library.

Weights are drawn on the host from a named stream, bitwise identical for one seed on every backend. Dropout masks come
from a counter hashed in array operations, where the activations live: no transfer, and bitwise identical everywhere too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import math
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace, device, library_name, on_device_of


@dataclasses.dataclass(frozen=True)
class Stream:
    """A source of random numbers, named by a seed and a path; streams of different names are independent."""

    seed: int
    path: str = ""

    def child(self, name: str) -> Stream:
        return Stream(self.seed, f"{self.path}.{name}" if self.path else name)

    def words(self, name: str) -> tuple[int, ...]:
        """Four 32-bit words that depend on the seed, the path and `name` alone."""
        digest = hashlib.sha256(f"{self.seed}/{self.child(name).path}".encode()).digest()
        return tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))

    def generator(self, name: str) -> np.random.Generator:
        """A NumPy generator on the host for draws called `name`."""
        return np.random.default_rng(self.words(name))


_seed = secrets.randbits(63)
_unnamed: Iterator[int] = itertools.count()


def checked_seed(n: int, owner: str) -> int:
    """`n` as an int; `TypeError` for what is none, such as a string that would give a seed of its own."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"{owner}: seed must be an int, got {n!r}")
    return int(n)


def seed(n: int) -> None:
    """Set the seed of xpdl's own streams: everything built or shuffled afterwards without a seed of its own.

    No global random state of NumPy, CuPy, PyTorch or Python is touched.
    """
    global _seed, _unnamed
    _seed = checked_seed(n, "seed")
    _unnamed = itertools.count()


def get_state() -> tuple[int, int]:
    """Return the seed of streams that are given none, and how many of them there were."""
    global _unnamed
    number = next(_unnamed)
    _unnamed = itertools.count(number)
    return _seed, number


def set_state(state: tuple[int, int]) -> None:
    """Go on with what `get_state` returned, in another process for example."""
    global _seed, _unnamed
    _seed, _unnamed = state[0], itertools.count(state[1])


@contextlib.contextmanager
def seeded(n: int) -> Iterator[None]:
    """`seed(n)` for a ``with`` block; after it, streams go on as if it had not been."""
    global _seed, _unnamed
    before = get_state()
    seed(n)
    try:
        yield
    finally:
        set_state(before)


def next_stream(name: str, seed: int | None = None) -> Stream:
    """A stream for something that has no place in a model: fresh at each call, repeatable after `seed`.

    With a `seed` given, it depends on that and `name` alone.
    """
    if seed is not None:
        return Stream(checked_seed(seed, name), name)
    return Stream(_seed, f"{name}#{next(_unnamed)}")


def random_bits(like: Array, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """24 random bits per element, as integers in the shape and on the device of `like`.

    Two rounds of C. Wellons' 32-bit integer hash ``lowbias32`` over the element's index, keyed by `words` and
    `counter`. Every library computes the same integers: 32-bit unsigned where it has that arithmetic, else in int64.
    `first_row` is the index of the first row of `like` in a larger batch, whose bits these are.
    """
    return keyed_bits(like, mask_keys(words, counter), first_row)


def keyed_bits(like: Array, keys: Sequence[Any], first_row: int = 0) -> Array:
    """`random_bits` for the two keys of `mask_keys`, which JAX may trace as an array (2,) of uint32."""
    xp = array_namespace(like)
    # torch has no arithmetic on uint32, nor has ndonnx; the low 32 bits of a wrapping int64 product are the same
    narrow = library_name(xp) not in ("torch", "ndonnx")
    dtype = xp.uint32 if narrow else xp.int64
    mask = 0xFFFFFFFF

    def word(value: Any) -> Any:
        # JAX takes a Python int for an int32 unless 64-bit types are on
        return xp.asarray(value, dtype=dtype) if library_name(xp) == "jax" else value

    def hashed(h: Array) -> Array:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            h = h ^ (h >> shift)
            h = h * word(factor) if narrow else (h * factor) & mask
        return h ^ (h >> 16)

    size = math.prod(like.shape)
    first = first_element(like.shape, first_row)
    with on_device_of(like):
        index = xp.arange(first, first + size, dtype=dtype, device=device(like))
        bits = hashed(hashed(index ^ word(keys[0])) ^ word(keys[1])) >> 8
    return xp.reshape(bits, like.shape)


def mask_keys(words: tuple[int, ...], counter: int) -> tuple[int, int]:
    """The two keys of the hash: `counter` stirs both, on the host, so that masks of successive steps share nothing."""
    first, second, *_ = Stream(counter, ",".join(map(str, words))).words("step")
    return first, second


def mask_threshold(drop_ratio: float) -> int:
    """Return the threshold that the 24 random bits of a kept value reach."""
    return round(drop_ratio * 2**24)


def first_element(shape: tuple[int, ...], first_row: int) -> int:
    """Return the index of the first element of rows that begin at `first_row`."""
    return first_row * math.prod(shape[1:])


def keep_mask(like: Array, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Array:
    """A boolean mask of the shape of `like` that is False with probability `drop_ratio`."""
    with on_device_of(like):
        return random_bits(like, words, counter, first_row) >= mask_threshold(drop_ratio)
