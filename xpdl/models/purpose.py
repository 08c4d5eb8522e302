"""Attributes of a model that say what it is for, in the metadata of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xpdl.data.text.vocabulary import Vocabulary
from xpdl.errors import ShapeError
from xpdl.io import json_text
from xpdl.layers.loss_layer import LossLayer
from xpdl.models import architecture

_PLAIN = ("class_names", "preparation", "origin")


class OfTokens:
    """The vocabulary of a language model: what its tokens stand for."""

    name: str
    takers_of_ids: Callable[[Any], list[Any]]
    _vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, words: Vocabulary | None) -> None:
        if not (words is None or isinstance(words, Vocabulary)):
            raise TypeError(f"{self.name}: vocabulary must be an xpdl.Vocabulary, got {type(words).__name__}")
        sizes = [] if words is None else [taker.count for taker in self.takers_of_ids(None)]
        if words is not None and sizes and len(words) not in sizes:
            raise ShapeError(
                f"{self.name}: the vocabulary has {len(words)} tokens, the net {sizes[0]}; take that of the text it learns, "
                "and make the net for len(vocabulary)"
            )
        self._vocabulary = words


def of(model: Any) -> dict[str, Any]:
    """Return the attributes by name as plain values, None for those that the model lacks.

    Raises
    ------
    TypeError
        If a loss that was put in the place of the model's own is not known to files.
    """
    words, loss = model.vocabulary, model.last_layer
    # other models have theirs among the arguments
    is_kept = loss is None or model.config is None or repr(loss) == model.own_loss
    return {name: getattr(model, name) for name in _PLAIN} | {
        "vocabulary": None if words is None else words.to_json(),
        "loss": None if is_kept else architecture.to_json(loss, f"{model.name}.save"),
    }


def read(model: Any, metadata: Mapping[str, str]) -> None:
    """Set the attributes from the metadata of a file; None for each that it lacks.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    names, preparation, origin = (json_text.loads(metadata.get(name, "null")) for name in _PLAIN)
    if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
        raise ValueError(f"class_names are no list of strings: {str(names)[:100]}")
    for name, value in (("preparation", preparation), ("origin", origin)):
        if not (value is None or isinstance(value, dict)):
            raise ValueError(f"{name} is no dict: {str(value)[:100]}")
    words = json_text.loads(metadata.get("vocabulary", "null"))
    if not (words is None or isinstance(words, str)):
        raise ValueError(f"vocabulary is no text: {str(words)[:100]}")
    model.class_names, model.preparation, model.origin = names, preparation, origin
    model.vocabulary = None if words is None else Vocabulary.from_json(words)
    if "loss" in metadata:
        loss = architecture.from_json(json_text.loads(metadata["loss"]))
        if not isinstance(loss, LossLayer):
            raise ValueError(f"the loss is a {type(loss).__name__}, which is none")
        model.last_layer = loss
