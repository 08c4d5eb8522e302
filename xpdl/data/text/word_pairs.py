"""Words and those around them, and words whose vectors are alike."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.data.text.unigram_sampler import word_counts
from xpdl.data.text.vocabulary import Vocabulary
from xpdl.errors import LabelError, ShapeError
from xpdl.ops.checks import positive_int, require_rank

Similar = list[tuple[str, float]]


def create_contexts_target(corpus: Array, window_size: int = 1) -> tuple[Array, Array]:
    """Take each word of a text with those around it (Deep Learning from Scratch 2, section 3.3).

    Parameters
    ----------
    corpus : integer array (N,) of any library
    window_size : int
        Words on each side. Words that have fewer are no targets.

    Returns
    -------
    contexts : integer array (N - 2 * window_size, 2 * window_size)
    target : integer array (N - 2 * window_size,)
        In the library of `corpus`.

    Raises
    ------
    ShapeError
        If `corpus` is not in one row, or too short, or `window_size` is not a positive int.
    DTypeError
        If `corpus` are no integers.

    Examples
    --------
    >>> contexts, target = create_contexts_target(np.array([0, 1, 2, 3]))
    >>> contexts.tolist(), target.tolist()
    ([[0, 2], [1, 3]], [1, 2])
    """
    owner = "create_contexts_target"
    size = positive_int(window_size, "window_size", owner)
    word_counts(corpus, owner)  # checks it
    rows = corpus.shape[0] - 2 * size
    if rows < 1:
        raise ShapeError(
            f"{owner}: {corpus.shape[0]} words have none with {size} on each side, window_size={window_size!r}"
        )
    xp = array_namespace(corpus)
    places = [place for place in range(2 * size + 1) if place != size]
    return xp.stack([corpus[place : place + rows] for place in places], axis=1), corpus[size : size + rows]


def most_similar(query: str, vocabulary: Vocabulary, word_vecs: Array, top: int = 5) -> Similar:
    """Find the words whose vectors have the most similar direction (Deep Learning from Scratch 2, section 2.4).

    Parameters
    ----------
    query : str
    vocabulary : Vocabulary
    word_vecs : array (V, units) of any library
        One row for each token of the vocabulary.
    top : int

    Returns
    -------
    list of (str, float)
        Words and the cosines of their vectors and that of `query`, the largest first.

    Raises
    ------
    LabelError
        If `query` is not in the vocabulary.
    ShapeError
        If there are not as many vectors as tokens, or `top` is not a positive int.
    """
    vectors = _unit_vectors(word_vecs, vocabulary, "most_similar")
    return _nearest(vectors[_id(query, vocabulary, "most_similar")], vectors, vocabulary, {query}, top, "most_similar")


def analogy(a: str, b: str, c: str, vocabulary: Vocabulary, word_vecs: Array, top: int = 5) -> Similar:
    """Find the words that are to `c` as `b` is to `a` (Deep Learning from Scratch 2, section 4.3).

    Parameters
    ----------
    a, b, c : str
    vocabulary, word_vecs, top
        As of `most_similar`.

    Returns
    -------
    list of (str, float)
        Words other than the three, and the cosines of their vectors and ``b - a + c`` of unit vectors, the largest first.

    Raises
    ------
    LabelError
        If one of the words is not in the vocabulary.
    ShapeError
        If there are not as many vectors as tokens, or `top` is not a positive int.
    """
    vectors = _unit_vectors(word_vecs, vocabulary, "analogy")
    of_a, of_b, of_c = (vectors[_id(word, vocabulary, "analogy")] for word in (a, b, c))
    return _nearest(of_b - of_a + of_c, vectors, vocabulary, {a, b, c}, top, "analogy")


def _id(word: Any, vocabulary: Vocabulary, owner: str) -> int:
    if word not in vocabulary:
        raise LabelError(f"{owner}: {word!r} is none of the {len(vocabulary)} {vocabulary.kind}")
    return vocabulary.ids[word]


def _unit_vectors(word_vecs: Any, vocabulary: Any, owner: str) -> np.ndarray[Any, Any]:
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"{owner}: vocabulary must be a Vocabulary, got {vocabulary!r}")
    array_namespace(word_vecs, owner=owner)
    require_rank(word_vecs, 2, owner, "word_vecs (V, units)")
    if word_vecs.shape[0] != len(vocabulary):
        raise ShapeError(f"{owner}: {vocabulary!r} needs as many word_vecs, got shape {tuple(word_vecs.shape)}")
    vectors = asnumpy(word_vecs).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = vectors / np.where(lengths > 0, lengths, 1.0)
    return unit


def _nearest(
    vector: np.ndarray[Any, Any],
    vectors: np.ndarray[Any, Any],
    vocabulary: Vocabulary,
    without: Collection[str],
    top: int,
    owner: str,
) -> Similar:
    count = positive_int(top, "top", owner)
    length = float(np.linalg.norm(vector)) or 1.0
    cosines = (vectors @ vector / length).tolist()
    order = sorted(range(len(vocabulary)), key=lambda row: -cosines[row])
    words = [(str(vocabulary.tokens[row]), cosines[row]) for row in order if vocabulary.tokens[row] not in without]
    return words[:count]
