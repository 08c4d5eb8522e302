"""Vocabularies in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from xpdl.data.text.tokens import Token
from xpdl.io import json_text

_FORMAT = "xpdl vocabulary"


def written(tokens: Sequence[Token], kind: str, lower: bool, special: Mapping[str, str]) -> str:
    """Return a vocabulary in JSON; bytes are characters of Latin-1."""
    shown = [token.decode("latin-1") for token in tokens if isinstance(token, bytes)] or tokens
    return json.dumps({"format": _FORMAT, "kind": kind, "lower": lower, "special": special, "tokens": shown})


def read(content: str | bytes) -> tuple[Any, dict[str, Any]]:
    """Return tokens and options of a vocabulary, which are not checked yet.

    Raises
    ------
    ValueError
        If `content` is no JSON of this form.
    """
    found = json_text.loads(content)
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("special"), dict):
        raise ValueError(f"Vocabulary: expected a dict of the format {_FORMAT!r}")
    tokens = found.get("tokens")
    if found.get("kind") == "byte pairs" and isinstance(tokens, list):
        tokens = [token.encode("latin-1") if isinstance(token, str) else token for token in tokens]
    return tokens, {key: found.get(key) for key in ("kind", "lower")} | found["special"]
