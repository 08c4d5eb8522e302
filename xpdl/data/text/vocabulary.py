"""Vocabulary: the tokens of a text and their numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from xpdl.backends import asarray, asnumpy
from xpdl.backends.namespaces import Array, is_array
from xpdl.data.text import byte_pairs
from xpdl.data.text.tokens import (
    Token,
    checked_special,
    checked_text,
    checked_tokens,
    frequent,
    join,
    known,
    split,
    split_words,
    with_ids,
)
from xpdl.data.text.vocabulary_json import read, written
from xpdl.io.atomic import write_atomically
from xpdl.ops.checks import flag, positive_int

KINDS = ("characters", "words", "byte pairs")
#: names of the special tokens, in the order of their ids
SPECIAL = ("padding", "unknown", "begin", "end")


class Vocabulary:
    """The tokens that texts are made of, with their numbers, the ids: characters, words, or byte pairs.

    `Vocabulary.characters`, `Vocabulary.words` and `Vocabulary.byte_pairs` make one from a text. Special tokens stand for
    what is no part of a text: padding after short rows, tokens that are unknown, the beginning and the end.

    Parameters
    ----------
    tokens : sequence of str, of byte pairs bytes
        In the order of their ids. Byte pairs have the 256 single bytes first, then tokens in the order in which they were
        learnt.
    kind : "characters", "words" or "byte pairs"
        Characters: any text is split into its characters. Words: into words and signs, without white space. Byte pairs:
        into pieces of its UTF-8, of which any text can be put together (arXiv:1508.07909).
    lower : bool
        Make texts lower case before anything else.
    padding, unknown, begin, end : str, optional
        Special tokens, by default none. Those that are not among `tokens` come before these in this order, so that padding
        is 0.

    Attributes
    ----------
    tokens : tuple
        All tokens in the order of their ids, special ones too.
    ids : dict
        The id of each token.
    special : dict of str to str
        The special tokens that there are by their roles.
    padding_id, unknown_id, begin_id, end_id : int
        `AttributeError` where there is no such token.

    Raises
    ------
    ValueError
        If there are no tokens, one occurs twice or does not fit the kind, or a special token has two roles.
    TypeError
        If tokens are of another type, or empty.

    Examples
    --------
    >>> vocabulary = Vocabulary.characters("abracadabra")
    >>> vocabulary.tokens
    ('a', 'b', 'r', 'c', 'd')
    >>> ids = vocabulary.encode("bar")
    >>> ids.tolist(), vocabulary.decode(ids)
    ([1, 0, 2], 'bar')
    """

    def __init__(
        self,
        tokens: Sequence[Token],
        kind: str = "words",
        *,
        lower: bool = False,
        padding: str | None = None,
        unknown: str | None = None,
        begin: str | None = None,
        end: str | None = None,
    ) -> None:
        roles = dict(zip(SPECIAL, (padding, unknown, begin, end), strict=True))
        if kind not in KINDS:
            raise ValueError(f"Vocabulary: kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
        self.kind, self.lower = kind, flag(lower, "lower", "Vocabulary")
        self.special = checked_special(roles)
        own = checked_tokens(tokens, kind, self.special.values())
        self.tokens = (*(token for token in self.special.values() if token not in set(own)), *own)
        self.ids = {token: number for number, token in enumerate(self.tokens)}

    @classmethod
    def characters(
        cls, text: str, *, min_count: int = 1, max_size: int | None = None, lower: bool = False, **special: str | None
    ) -> Self:
        """Make a vocabulary of the characters of a text, the most frequent first, equally frequent ones in their order.

        Parameters
        ----------
        text : str
        min_count : int
            Leave out characters that occur less often.
        max_size : int, optional
            Keep so many of the most frequent ones.
        lower, **special
            As of `Vocabulary`.
        """
        counts = Counter(checked_text(text, flag(lower, "lower", "Vocabulary")))
        return cls(frequent(counts, min_count, max_size), "characters", lower=lower, **special)

    @classmethod
    def words(
        cls,
        text: str | Iterable[str],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        lower: bool = True,
        **special: str | None,
    ) -> Self:
        """Make a vocabulary of the words and signs of a text, the most frequent first, equally frequent ones in their order.

        Parameters
        ----------
        text : str, or iterable of str
            A text, or words that somebody else has split: ``line.split()`` for a corpus with blanks between its tokens.
        min_count : int
            Leave out words that occur less often.
        max_size : int, optional
            Keep so many of the most frequent ones.
        lower, **special
            As of `Vocabulary`.
        """
        counts = Counter(split_words(text, flag(lower, "lower", "Vocabulary"), special.values()))
        return cls(frequent(counts, min_count, max_size), "words", lower=lower, **special)

    @classmethod
    def byte_pairs(cls, text: str, size: int = 1000, *, lower: bool = False, **special: str | None) -> Self:
        """Learn byte pairs from a text, by joining the most frequent neighbours to new tokens (arXiv:1508.07909).

        Tokens do not reach over the ends of words. Of equally frequent pairs the first one in alphabetical order is joined,
        so that the same text gives the same vocabulary.

        Parameters
        ----------
        text : str
        size : int
            Tokens at most, more than 256 and special ones in addition; fewer where no pair occurs twice any more.
        lower, **special
            As of `Vocabulary`.
        """
        size = positive_int(size, "size", "Vocabulary")
        if size < len(byte_pairs.SINGLE_BYTES):
            raise ValueError(f"Vocabulary: size of byte pairs must be at least 256, the single bytes, got {size}")
        text = checked_text(text, flag(lower, "lower", "Vocabulary"))
        tokens = byte_pairs.learn(Counter(byte_pairs.pieces(text)), size)
        return cls(tokens, "byte pairs", lower=lower, **special)

    def encode(self, text: str | Iterable[str], *, begin: bool = False, end: bool = False) -> Array:
        """Return the ids of a text's tokens.

        Parameters
        ----------
        text : str or, for words, iterable of str
            A text, or its words as somebody else has split it, special ones among them.
        begin, end : bool
            Put these special tokens around it.

        Returns
        -------
        integer array (length,)
            int64, of the backend in use.

        Raises
        ------
        LabelError
            If a token is not in the vocabulary, which has no unknown token.
        """
        tokens = split(text, self.kind, self.lower, self.special.values(), self.ids)
        ids = known(tokens, self.ids, self.special.get("unknown"), self.kind)
        first = [self.begin_id] if flag(begin, "begin", "Vocabulary.encode") else []
        last = [self.end_id] if flag(end, "end", "Vocabulary.encode") else []
        return asarray(np.asarray([*first, *ids, *last], dtype=np.int64))

    def decode(self, ids: Array | Sequence[int], *, special: bool = True) -> str:
        """Return the text of ids; words are put together with blanks between them.

        Bytes that are no UTF-8, as a model may put them together, become the replacement character.

        Parameters
        ----------
        ids : integer array (length,) of any library, or sequence of int
        special : bool
            Write special tokens, too.

        Raises
        ------
        LabelError
            If a number is not the id of a token.
        TypeError
            If `ids` are no integers in one row.
        """
        hidden = set() if flag(special, "special", "Vocabulary.decode") else set(self.special.values())
        numbers = np.asarray(asnumpy(ids) if is_array(ids) else ids)
        found = with_ids(numbers, self.tokens, self.kind)
        return join([token for token in found if token not in hidden], self.kind)

    def to_json(self) -> str:
        """Return the vocabulary in JSON, in ASCII alone."""
        return written(self.tokens, self.kind, self.lower, self.special)

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Make what `to_json` wrote; `ValueError` for anything else."""
        tokens, options = read(content)
        try:
            return cls(tokens, **options)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, atomically: a disk that is full leaves the old one, or none."""
        write_atomically(path, (self.to_json() + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; `ValueError` if the file is something else."""
        try:
            return cls.from_json(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: is not a vocabulary ({error})") from None

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and vars(self) == vars(other)

    def __repr__(self) -> str:
        roles = "".join(f", {role}={token!r}" for role, token in self.special.items())
        return f"Vocabulary({len(self)} {self.kind}{', lower' if self.lower else ''}{roles})"

    @property
    def padding_id(self) -> int:
        return self._special_id("padding")

    @property
    def unknown_id(self) -> int:
        return self._special_id("unknown")

    @property
    def begin_id(self) -> int:
        return self._special_id("begin")

    @property
    def end_id(self) -> int:
        return self._special_id("end")

    def _special_id(self, role: str) -> int:
        if role not in self.special:
            raise AttributeError(f"Vocabulary: has no {role} token; make it with {role}='<{role}>'")
        return self.ids[self.special[role]]
