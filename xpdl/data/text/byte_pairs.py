"""Byte pairs: a text as byte strings, of which frequent ones are learnt by joining neighbours (arXiv:1508.07909).

A text begins as pieces, words with the blank before them, and each piece as single bytes of UTF-8. Training joins the most
frequent pair of neighbours to a new token, again and again. Encoding joins in the same order. Any text can be written so,
since single bytes are tokens, too.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

SINGLE_BYTES = [bytes([value]) for value in range(256)]

# a word or a run of punctuation, with the blank before it; other white space
_PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s+?(?= ?\S)|\s+")


def pieces(text: str) -> list[bytes]:
    """Split a text; tokens do not reach over the ends of pieces. Put together, the pieces are the text in UTF-8."""
    # surrogates alone, which UTF-8 has no bytes for, are characters of Python as well
    return [piece.encode("utf-8", "surrogatepass") for piece in _PIECE.findall(text)]


def text_of(content: bytes) -> str:
    """Decode UTF-8; what is none, as a model may write it, becomes the replacement character."""
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace")


def learn(counts: Mapping[bytes, int], size: int) -> list[bytes]:
    """Learn tokens from pieces and the numbers of times that they occur.

    Parameters
    ----------
    counts : mapping of bytes to int
    size : int
        Tokens at most, of which 256 are the single bytes.

    Returns
    -------
    list of bytes
        In the order in which they were joined; fewer than `size` where no pair occurs twice any more. Of pairs that occur
        equally often, the one whose bytes come first in alphabetical order is joined first.
    """
    ranks = {token: rank for rank, token in enumerate(SINGLE_BYTES)}
    words = {piece: split(piece, ranks) for piece in counts}
    occurrences: Counter[bytes] = Counter()
    containing: defaultdict[bytes, set[bytes]] = defaultdict(set)  # pair -> the pieces that have it
    for piece, parts in words.items():
        for pair in _pairs(parts):
            occurrences[pair] += counts[piece]
            containing[pair].add(piece)
    while len(ranks) < size and occurrences and (most := max(occurrences.values())) > 1:
        token = min(pair for pair, count in occurrences.items() if count == most)
        ranks[token] = len(ranks)
        for piece in containing.pop(token):
            before, words[piece] = words[piece], split(piece, ranks)
            for pair in _pairs(before):
                occurrences[pair] -= counts[piece]
            for pair in _pairs(words[piece]):
                occurrences[pair] += counts[piece]
                containing[pair].add(piece)
    return list(ranks)


def split(piece: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Split a piece into tokens: join neighbours, those first that were learnt first.

    Parameters
    ----------
    piece : bytes
    ranks : mapping of bytes to int
        Tokens, numbered in the order in which they were learnt.
    """
    parts = [bytes([value]) for value in piece]
    while known := [pair for pair in _pairs(parts) if pair in ranks]:
        parts = join(parts, min(known, key=ranks.__getitem__))
    return parts


def join(parts: list[bytes], token: bytes) -> list[bytes]:
    """Join neighbours that together are `token`, from left to right."""
    joined: list[bytes] = []
    for part in parts:
        if joined and joined[-1] + part == token:
            joined[-1] = token
        else:
            joined.append(part)
    return joined


def _pairs(parts: list[bytes]) -> Iterable[bytes]:
    """Return each two neighbours, put together."""
    return [left + right for left, right in itertools.pairwise(parts)]
