"""Tasks on sequences of characters, drawn from a seed on the host: additions, copying and brackets."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xpdl.backends import asarray
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream, next_stream
from xpdl.data.text.vocabulary import Vocabulary
from xpdl.ops.checks import int_at_least, number, positive_int

Pair = tuple[Array, Array]
Examples = tuple[Pair, Pair, Vocabulary]
#: draws so many questions with their answers
Draw = Callable[[int], Iterable[tuple[str, Any]]]

_MAX_DIGITS = 9  # whose pairs are numbers of 64 bits
_MATCHING = {"(": ")", "[": "]"}


def additions(n: int = 50_000, *, digits: int = 3, test_share: float = 0.1, seed: int | None = None) -> Examples:
    """Sums as characters, such as ``"57+5   "`` and ``"_62  "`` (Deep Learning from Scratch 2, section 7.3).

    Parameters
    ----------
    n : int
        Different sums, in random order.
    digits : int
        Numbers have 1 to so many digits, each as often; at most 9.
    test_share : float
        Share of the rows that are kept to test with, in (0, 1).
    seed : int, optional
        By default the sums follow `xpdl.seed`.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : integer arrays (n, 2 * digits + 1) and (n, digits + 2)
        Ids of questions and answers, of the backend in use. Answers begin with ``_``; both are filled with blanks.
    vocabulary : Vocabulary
        Of 13 characters: ``begin`` is ``_``, and ``padding`` the blank.

    Raises
    ------
    ShapeError
        If a count is not a positive int.
    ValueError
        If there are not so many different sums, or `test_share` leaves no rows.

    Examples
    --------
    >>> (x, t), test, vocabulary = additions(100, seed=0)
    >>> x.shape, t.shape, len(vocabulary)
    ((90, 7), (90, 5), 13)
    >>> vocabulary.decode(x[0]), vocabulary.decode(t[0])
    ('8+533  ', '_541 ')
    """
    places = positive_int(digits, "digits", "additions")
    if places > _MAX_DIGITS:
        raise ValueError(f"additions: digits must be at most {_MAX_DIGITS}, got {digits!r}")
    stream = next_stream("additions", seed)
    rng = stream.generator("numbers")

    def draw(count: int) -> Iterable[tuple[str, str]]:
        terms = rng.integers(0, 10 ** rng.integers(1, places + 1, (count, 2))).tolist()
        return ((f"{a}+{b}", f"_{a + b}") for a, b in terms)

    vocabulary = Vocabulary([*"0123456789+ _"], "characters", padding=" ", begin="_")
    widths, most = (2 * places + 1, places + 2), 10 ** (2 * places)
    return examples(draw, n, widths, vocabulary, test_share, stream, "additions", most=most)


def copies(n: int = 10_000, *, length: int = 10, test_share: float = 0.1, seed: int | None = None) -> Examples:
    """Words of random letters, and the same again: ``"kqd "`` and ``"_kqd "``.

    Parameters
    ----------
    n : int
        Different words, in random order.
    length : int
        Words have 1 to so many letters, each as often.
    test_share, seed
        As of `additions`.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : integer arrays (n, length) and (n, length + 1)
        Ids, of the backend in use. Answers begin with ``_``; both are filled with blanks.
    vocabulary : Vocabulary
        Of 28 characters: ``begin`` is ``_``, and ``padding`` the blank.

    Raises
    ------
    ShapeError
        If a count is not a positive int.
    ValueError
        If there are not so many different words, or `test_share` leaves no rows.
    """
    most = positive_int(length, "length", "copies")
    stream = next_stream("copies", seed)
    rng = stream.generator("words")

    def draw(count: int) -> Iterable[tuple[str, str]]:
        for letters in rng.integers(1, most + 1, count):
            word = "".join(string.ascii_lowercase[i] for i in rng.integers(0, 26, letters))
            yield word, f"_{word}"

    vocabulary = Vocabulary([*string.ascii_lowercase, " ", "_"], "characters", padding=" ", begin="_")
    words = sum(26**letters for letters in range(1, most + 1))
    return examples(draw, n, (most, most + 1), vocabulary, test_share, stream, "copies", most=words)


def brackets(n: int = 10_000, *, length: int = 20, test_share: float = 0.1, seed: int | None = None) -> Examples:
    """Rows of brackets, and whether each is closed by one of its kind: ``"([])"`` is, ``"([)]"`` is not.

    Parameters
    ----------
    n : int
        Different rows, about half of which are right. One bracket of the others is wrong.
    length : int
        Rows have 2, 4, 6, ... up to so many brackets, each as often.
    test_share, seed
        As of `additions`.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : integer arrays (n, length) and (n,)
        Ids, filled with blanks, and labels, 1 where the row is right; of the backend in use.
    vocabulary : Vocabulary
        Of 5 characters: ``padding`` is the blank.

    Raises
    ------
    ShapeError
        If a count is not an int, `n` not positive or `length` below 2.
    ValueError
        If there are not so many different rows, or `test_share` leaves no rows.
    """
    most = int_at_least(2, length, "length", "brackets")
    stream = next_stream("brackets", seed)
    rng = stream.generator("rows")

    def draw(count: int) -> Iterable[tuple[str, int]]:
        for pairs in rng.integers(1, most // 2 + 1, count).tolist():
            row, right = _balanced(pairs, rng), int(rng.integers(2))
            if not right:  # any other bracket at this place is one too many of its kind
                place = int(rng.integers(len(row)))
                others = [bracket for bracket in "()[]" if bracket != row[place]]
                row[place] = others[rng.integers(3)]
            yield "".join(row), right

    vocabulary = Vocabulary([*" ()[]"], "characters", padding=" ")
    return examples(draw, n, (most, 0), vocabulary, test_share, stream, "brackets")


def _balanced(pairs: int, rng: np.random.Generator) -> list[str]:
    row: list[str] = []
    closing: list[str] = []
    for opened, closes in zip(
        rng.integers(0, 2, 2 * pairs).tolist(), (rng.random(2 * pairs) < 0.5).tolist(), strict=True
    ):
        may_open = len(row) + len(closing) < 2 * pairs
        if closing and (closes or not may_open):
            row.append(closing.pop())
        else:
            row.append("(["[opened])
            closing.append(_MATCHING[row[-1]])
    return row


def examples(
    draw: Draw,
    n: int,
    widths: tuple[int, int],
    vocabulary: Vocabulary,
    test_share: float,
    stream: Stream,
    owner: str,
    *,
    most: int | None = None,
) -> Examples:
    """Draw different questions with their answers, and split them into rows to train and to test with.

    Parameters
    ----------
    draw : function of a number of questions
        Answers are texts, or the numbers of classes.
    n : int
        Different questions.
    widths : (int, int)
        Of questions and answers, which blanks are put after.
    vocabulary : Vocabulary
    test_share : float
    stream : Stream
        Of the order.
    owner : str
        For messages.
    most : int, optional
        Different questions that there are, where that is known: more are refused before any is drawn.
    """
    rows = positive_int(n, "n", owner)
    share = number(test_share, "test_share", owner, "in (0, 1)")
    test = round(rows * share)
    if not 0 < test < rows:
        raise ValueError(f"{owner}: test_share {test_share!r} of {rows} rows leaves none to train or none to test with")
    if most is not None and rows > most:
        raise ValueError(f"{owner}: there are {most} different rows, got n={n!r}; ask for fewer, or longer ones")
    found: dict[str, Any] = {}
    while len(found) < rows:
        before = len(found)
        found.update(draw(rows))
        if len(found) - before < rows / 1000:
            raise ValueError(
                f"{owner}: there are hardly {rows} different rows, got n={n!r}; ask for fewer, or longer ones"
            )
    pairs = [*found.items()]
    # those that are drawn often come first
    questions, answers = zip(*(pairs[i] for i in stream.generator("order").permutation(len(pairs))[:rows]), strict=True)
    x = _ids(questions, widths[0], vocabulary)
    t = _ids(answers, widths[1], vocabulary) if isinstance(answers[0], str) else np.asarray(answers, dtype=np.int64)
    train = rows - test
    return (asarray(x[:train]), asarray(t[:train])), (asarray(x[train:]), asarray(t[train:])), vocabulary


def _ids(texts: Sequence[str], width: int, vocabulary: Vocabulary) -> np.ndarray[Any, Any]:
    """Ids (N, width) of texts in ASCII, with blanks behind them."""
    table = np.zeros(128, dtype=np.int64)
    for char, place in vocabulary.ids.items():
        table[ord(str(char))] = place
    codes = np.frombuffer("".join(text.ljust(width) for text in texts).encode("ascii"), np.uint8)
    return table[codes].reshape(len(texts), width)
