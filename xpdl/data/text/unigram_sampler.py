"""Words drawn as often as they occur, or nearly so: the negative samples of word vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends import asarray, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, device, dtype_name
from xpdl.backends.random import next_stream
from xpdl.backends.subclasses import ids_cure
from xpdl.errors import DTypeError, LabelError
from xpdl.ops.checks import number, positive_int, require_range, require_rank

Host = np.ndarray[Any, Any]
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


class UnigramSampler:
    """Draws words other than the right ones, each with a probability that grows with its frequency (arXiv:1310.4546).

    Parameters
    ----------
    corpus : integer array (N,) of any library
        Ids of the words of a text.
    power : float
        Probabilities are the frequencies to this power, divided by their sum: below 1, rare words are drawn more often than
        they occur.
    sample_size : int
        Words for each right one.
    seed : int, optional
        By default the draws follow `xpdl.seed`.

    Attributes
    ----------
    word_p : NumPy array (V,) of float64
        The probability of each word; V is the largest id and 1.

    Raises
    ------
    ShapeError
        If `corpus` is not in one row, or `sample_size` not a positive int.
    DTypeError
        If `corpus` are no integers.
    ValueError
        If fewer than two words occur, which leaves none to draw, or `power` is not a number of at least 0.

    Notes
    -----
    The words for one right one are drawn with replacement, as in the paper; the second volume's sampler draws without.

    Examples
    --------
    >>> sampler = UnigramSampler(np.array([0, 1, 2, 3, 4, 1, 2, 3]), sample_size=2, seed=0)
    >>> sampler.get_negative_sample(np.array([1, 3, 0])).shape
    (3, 2)
    """

    def __init__(self, corpus: Array, power: float = 0.75, sample_size: int = 5, *, seed: int | None = None) -> None:
        self.power = number(power, "power", "UnigramSampler", "at least 0")
        self.sample_size = positive_int(sample_size, "sample_size", "UnigramSampler")
        self.word_p = probabilities(word_counts(corpus, "UnigramSampler"), self.power, "UnigramSampler")
        self._rng = next_stream("UnigramSampler", seed).generator("words")

    def get_negative_sample(self, target: Array) -> Array:
        """Draw `sample_size` words for each word of `target`, never that word.

        Parameters
        ----------
        target : integer array (...) of any library

        Returns
        -------
        integer array (..., sample_size)
            Of the backend in use.
        """
        right = asnumpy(target)
        require_range(right, len(self.word_p), "UnigramSampler")
        uniform = self._rng.random((*right.shape, self.sample_size))
        return asarray(draw(ends_of(self.word_p), right, uniform))


def word_counts(corpus: Any, owner: str, count: int | None = None) -> Host:
    """Count how often each id occurs, of `count` or of all up to the largest."""
    xp = array_namespace(corpus, owner=owner)
    require_rank(corpus, 1, owner, "ids of a text (N,)")
    if not xp.isdtype(corpus.dtype, "integral"):
        raise DTypeError(f"{owner}: corpus must be ids, got {dtype_name(corpus.dtype)}; {ids_cure(corpus)}")
    ids = asnumpy(corpus)
    if ids.size and ids.min() < 0:
        raise LabelError(f"{owner}: corpus has the id {ids.min()}; ids of words count from 0")
    if count is not None:
        require_range(ids, count, owner)
    return np.bincount(ids, minlength=count or 0)


def probabilities(counts: Host, power: float, owner: str) -> Host:
    """Return frequencies to a power, as probabilities."""
    if np.count_nonzero(counts) < 2:
        raise ValueError(f"{owner}: a text of fewer than two different words leaves none to draw, got {counts!r}")
    powered = np.where(counts > 0, counts.astype(np.float64), 0.0) ** power * (counts > 0)
    found: Host = powered / powered.sum()
    return found


def ends_of(word_p: Host) -> Host:
    """Return the sums of the probabilities of each word and all before it, the last of which is 1."""
    ends: Host = np.cumsum(word_p)
    ends /= ends[-1]
    return ends


def draw(ends: Array, right: Array, uniform: Array) -> Array:
    """Return words by numbers `uniform` (..., K) in [0, 1), of those other than `right` (...).

    The interval that belongs to the right word in `ends` (V,), see `ends_of`, is skipped. All are arrays of one library and
    device, where the words are drawn: nothing is read on the host.
    """
    xp = array_namespace(ends, right, uniform)
    one = xp.arange(1, device=device(right))
    words = xp.clip(xp.astype(xp.reshape(right, (-1,)), one.dtype), 0, ends.shape[0] - 1)
    behind = xp.take(ends, words)
    before = xp.where(words > 0, xp.take(ends, xp.maximum(words - 1, xp.zeros_like(one))), 0.0)
    end, begin = (xp.reshape(a, (*right.shape, 1)) for a in (behind, before))
    place = uniform * (begin + (1.0 - end))
    place = xp.where(place < begin, place, xp.maximum(place + (end - begin), end))
    place = xp.where(place < 1.0, place, _BELOW_ONE)
    return xp.reshape(xp.searchsorted(ends, xp.reshape(place, (-1,)), side="right"), uniform.shape)
