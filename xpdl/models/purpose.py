"""Attributes of a model that say what it is for, in the metadata of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xpdl.data.text.vocabulary import Vocabulary

_PLAIN = ("class_names", "preparation", "origin")


def of(model: Any) -> dict[str, Any]:
    """Return the attributes by name as plain values, None for those that the model lacks.

    Raises
    ------
    TypeError
        If `vocabulary` is something else.
    """
    words = model.vocabulary
    if not (words is None or isinstance(words, Vocabulary)):
        raise TypeError(f"{model.name}: vocabulary must be an xpdl.Vocabulary, got {type(words).__name__}")
    return {name: getattr(model, name) for name in _PLAIN} | {"vocabulary": None if words is None else words.to_json()}


def read(model: Any, metadata: Mapping[str, str]) -> None:
    """Set the attributes from the metadata of a file; None for each that it lacks.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    names, preparation, origin = (json.loads(metadata.get(name, "null")) for name in _PLAIN)
    if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
        raise ValueError(f"class_names are no list of strings: {str(names)[:100]}")
    for name, value in (("preparation", preparation), ("origin", origin)):
        if not (value is None or isinstance(value, dict)):
            raise ValueError(f"{name} is no dict: {str(value)[:100]}")
    words = json.loads(metadata.get("vocabulary", "null"))
    if not (words is None or isinstance(words, str)):
        raise ValueError(f"vocabulary is no text: {str(words)[:100]}")
    model.class_names, model.preparation, model.origin = names, preparation, origin
    model.vocabulary = None if words is None else Vocabulary.from_json(words)
