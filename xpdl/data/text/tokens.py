"""Tokens of texts: how texts are split into them, and checks of those that vocabularies are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from xpdl.data.text import byte_pairs
from xpdl.errors import LabelError
from xpdl.ops.checks import positive_int

Token = str | bytes

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def split(text: Any, kind: str, lower: bool, special: Collection[str], ids: Mapping[Token, int]) -> list[Any]:
    """Split a text into tokens of a kind; of byte pairs, into those of `ids`."""
    if kind == "words":
        return split_words(text, lower, special)
    text = checked_text(text, lower)
    if kind == "characters":
        return [*text]
    ranks = {token: number for token, number in ids.items() if isinstance(token, bytes)}
    known: dict[bytes, list[bytes]] = {}  # most pieces of a text occur many times
    parts: list[Token] = []
    for piece in byte_pairs.pieces(text):
        if piece not in known:
            known[piece] = byte_pairs.split(piece, ranks)
        parts += known[piece]
    return parts


def known(tokens: Sequence[Token], ids: Mapping[Token, int], unknown: str | None, kind: str) -> list[int]:
    """Return the ids of tokens.

    Raises
    ------
    LabelError
        If one has none, and nor has an `unknown` token.
    """
    numbers = [ids.get(token, -1 if unknown is None else ids[unknown]) for token in tokens]
    if -1 in numbers:
        raise LabelError(
            f"Vocabulary.encode: {tokens[numbers.index(-1)]!r} is none of the {len(ids)} {kind}; make the vocabulary with "
            "unknown='<unknown>', or of a text that has it"
        )
    return numbers


def with_ids(ids: Any, tokens: Sequence[Token], kind: str) -> list[Token]:
    """Return the tokens that have these ids; see `Vocabulary.decode` for what is raised."""
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        came = ids.tolist() if ids.size == 1 else f"{ids.dtype} of shape {ids.shape}"
        raise TypeError(
            f"Vocabulary.decode: ids must be integers in one row, got {came}; decode rows one by one, "
            "and take ids of scores by argmax"
        )
    numbers = ids.tolist()
    if wrong := [number for number in numbers if not 0 <= number < len(tokens)]:
        raise LabelError(f"Vocabulary.decode: id {wrong[0]} is none of the {len(tokens)} {kind}")
    return [tokens[number] for number in numbers]


def join(tokens: Iterable[Token], kind: str) -> str:
    """Put tokens together: words with blanks between them."""
    if kind == "byte pairs":
        encoded = (token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass") for token in tokens)
        return byte_pairs.text_of(b"".join(encoded))
    return (" " if kind == "words" else "").join(map(str, tokens))


def frequent(counts: Counter[str], min_count: int, max_size: int | None) -> list[str]:
    """Return tokens that occur often enough by falling frequency, equally frequent ones in alphabetical order."""
    least = positive_int(min_count, "min_count", "Vocabulary")
    most = None if max_size is None else positive_int(max_size, "max_size", "Vocabulary")
    return sorted((token for token in counts if counts[token] >= least), key=lambda token: (-counts[token], token))[
        :most
    ]


def split_words(text: Any, lower: bool, special: Collection[str | None]) -> list[Any]:
    if isinstance(text, str):
        return _WORD.findall(checked_text(text, lower))
    if not isinstance(text, Iterable):
        raise TypeError(f"Vocabulary: text must be a str or words, got {text!r}")
    return [checked_text(word, lower and word not in special) for word in text]


def checked_text(text: Any, lower: bool) -> str:
    if not isinstance(text, str):
        raise TypeError(f"Vocabulary: text must be a str, got {text!r}")
    return text.lower() if lower else text


def checked_special(roles: Mapping[str, Any]) -> dict[str, str]:
    special = {role: token for role, token in roles.items() if token is not None}
    for role, token in special.items():
        if not isinstance(token, str) or not token:
            raise TypeError(f"Vocabulary: {role} must be a str that is not empty, or None, got {token!r}")
        if list(special.values()).count(token) > 1:
            raise ValueError(f"Vocabulary: {role}={token!r} is another special token, too")
    return special


def checked_tokens(tokens: Any, kind: str, special: Collection[object]) -> tuple[Token, ...]:
    """Return the tokens of a vocabulary of this kind, in which there may be special ones."""
    if isinstance(tokens, (str, bytes, Mapping)) or not isinstance(tokens, Iterable):
        raise TypeError(f"Vocabulary: tokens must be a sequence of tokens, got {tokens!r}")
    found = tuple(tokens)
    wanted = bytes if kind == "byte pairs" else str
    for token in found:
        if not isinstance(token, wanted) or not token:
            raise TypeError(f"Vocabulary: tokens of {kind} must be {wanted.__name__} and not empty, got {token!r}")
        if kind == "characters" and len(token) > 1 and token not in special:
            raise ValueError(f"Vocabulary: each of tokens must be one character, got {token!r}")
    if not found:
        raise ValueError(
            f"Vocabulary: there are no tokens, got {tokens!r}; give a text that is not empty, or lower min_count"
        )
    if len(set(found)) < len(found):
        twice = next(token for token, count in Counter(found).items() if count > 1)
        raise ValueError(f"Vocabulary: {twice!r} occurs twice in tokens")
    if kind == "byte pairs" and list(found[:256]) != byte_pairs.SINGLE_BYTES:
        raise ValueError(f"Vocabulary: tokens of byte pairs must begin with the 256 single bytes, got {found[:3]}...")
    return found
