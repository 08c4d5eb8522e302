"""Layers inside of layers: the children of a layer, and what reaches all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from xpdl.layers.freezing import Freezable
from xpdl.layers.named import Entry, NamedEntries
from xpdl.layers.parameter_view import OwnAndInside

T = TypeVar("T", bound="LayerTree")

_OWN = ("params", "grads", "state")


def _entries(kind: str, doc: str) -> Any:
    """An attribute: the layer's own dict, or a view of that and of those of the layers inside."""

    def read(self: LayerTree) -> Any:
        try:
            own = self.__dict__[kind]
        except KeyError:
            _require_constructed(self)
            raise
        if not self.holds_layers or not any(self.children()):
            return own
        inside = {path: (owner, key) for path, owner, key in self.named(kind) if owner is not own}
        return OwnAndInside(own, inside)

    def assign(self: LayerTree, value: dict[str, Any]) -> None:
        self.__dict__[kind] = value

    return property(read, assign, doc=doc)


class LayerTree(Freezable, NamedEntries):
    """A layer and those inside of it: attributes that are layers, or lists, tuples and dicts of layers, by their names."""

    #: whether attributes may be layers; those of xpdl's own classes are not, or are named by `children`
    holds_layers: ClassVar[bool] = False
    #: whether the entries of a layer of the class are those of its own dicts: no such layer can have children
    is_leaf: ClassVar[bool] = True

    name: str
    training: bool
    params: Any = _entries("params", "Names -> parameters, those of the layers inside with their path.")
    grads: Any = _entries("grads", "Names -> gradients of the last backward pass.")
    state: Any = _entries("state", "Names -> running statistics, and counters of random masks.")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.holds_layers = not cls.__module__.startswith("xpdl.")
        plain = cls.children is LayerTree.children and cls.named is LayerTree.named
        cls.is_leaf = plain and not cls.holds_layers

    def children(self) -> Iterator[tuple[str, Any]]:
        """(name, layer) of each layer directly inside, in the order in which the attributes were set."""
        return held_by(self.__dict__) if self.holds_layers else iter(())

    def tree(self) -> Iterator[Any]:
        """The layer itself, and all layers inside of it."""
        yield self
        for _, layer in self.children():
            if layer.is_leaf:  # without a generator of its own, which takes twice as long, in every step
                yield layer
            else:
                yield from layer.tree()

    def savers(self) -> Iterator[Any]:
        """The layer and those inside, and fused steps: all that saves something in a forward pass."""
        yield self
        for _, layer in self.children():
            yield from layer.savers()

    def leaves(self) -> Iterator[Any]:
        """All layers inside that are made of no others, in order."""
        for _, layer in self.children():
            yield from (layer.leaves() if any(layer.children()) else (layer,))

    def own(self, kind: str) -> dict[str, Any]:
        """The layer's own ``"params"``, ``"grads"`` or ``"state"``, without those of the layers inside."""
        own: dict[str, Any] = self.__dict__.get(kind, {})
        return own

    def named(self, kind: str) -> Iterator[Entry]:
        own = self._shown(kind)
        for key in own:
            yield key, own, key
        if self.is_leaf:
            return
        for name, layer in self.children():
            if layer.is_leaf:  # without a generator, as in `tree`
                own = layer._shown(kind)
                for key in own:
                    yield f"{name}.{key}", own, key
            else:
                for path, owner, key in layer.named(kind):
                    yield f"{name}.{path}", owner, key

    def _shown(self, kind: str) -> dict[str, Any]:
        """`own`, without the gradients of a frozen layer."""
        own: dict[str, Any] = {} if kind == "grads" and self._frozen else self.__dict__.get(kind, {})
        return own

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make a layer from what `get_config` returned; chains and residual blocks take their ``layers`` by position."""
        arguments = dict(config)
        return cls(*arguments.pop("layers", ()), **arguments)

    def set_name(self, name: str) -> None:
        """Tell the layer, and those inside, its place in a model, for messages."""
        self.name = name
        for key, layer in self.children():
            layer.set_name(f"{name}.{key}")

    def train(self: T, mode: bool = True) -> T:
        """Put the layer and those inside into training mode, or with ``mode=False`` into evaluation."""
        self.training = mode
        for _, layer in self.children():
            layer.train(mode)
        return self

    def eval(self: T) -> T:
        """Put the layer into evaluation mode: running statistics, no dropout."""
        return self.train(False)


@contextlib.contextmanager
def in_mode(layer: LayerTree, training: bool) -> Iterator[None]:
    """Inside, a layer and those in it are in training or in evaluation mode."""
    before = [(one, one.training) for one in layer.tree()]
    layer.train(training)
    try:
        yield
    finally:
        for one, mode in before:
            one.training = mode


def first_parameter(layer: LayerTree) -> Any:
    """Return the first array of the parameters of a layer and those inside of it; None where there is none."""
    for array in layer.own("params").values():
        return array
    if not layer.is_leaf:
        for _, inside in layer.children():
            found = first_parameter(inside)
            if found is not None:
                return found
    return None


def forward_in_mode(layer: Any, x: Any, train_flg: bool | None, *more: Any) -> Any:
    """``layer.forward(x, *more)`` in training or evaluation, or by ``None`` in the mode that the layer is in."""
    if layer.accepts_train_flg:
        return layer.forward(x, *more, train_flg=train_flg) if more else layer.forward(x, train_flg)
    if train_flg is None or not layer.holds_layers:
        return layer.forward(x, *more)
    with in_mode(layer, train_flg):
        return layer.forward(x, *more)


def held_by(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, layer) of attributes that are layers or hold layers; of one under two names, the first."""
    found: set[int] = set()
    for name, value in attributes.items():
        for path, layer in _layers_of(name, value):
            if id(layer) not in found:
                found.add(id(layer))
                yield path, layer


def _layers_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, LayerTree):
        yield name, value
    elif isinstance(value, (list, tuple, dict)) and value and name not in _OWN:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        first = next(iter(value.values() if isinstance(value, dict) else value))
        if isinstance(first, LayerTree):  # the first tells, as a list may hold a million numbers
            yield from ((f"{name}.{key}", layer) for key, layer in pairs)


def require_tree(layer: LayerTree) -> None:
    """Refuse layers that nothing would train: in two places at once, or where `children` does not look.

    Raises
    ------
    TypeError
        If an attribute holds layers in another way than as a list, tuple or dict of nothing else, or an array and its
        gradient that are not in ``params`` and ``grads``.
    ValueError
        If one layer is in two places, or inside of itself.
    """
    places: dict[int, str] = {}
    _require_constructed(layer)
    _visit(layer, layer.name, places, set())


def _require_constructed(layer: LayerTree) -> None:
    """Refuse a layer whose constructor has not called that of `Layer`."""
    if "name" not in vars(layer):
        raise TypeError(
            f"{type(layer).__name__}: __init__ has not called super().__init__(), which makes params, grads and state; "
            "call it first"
        )


def _visit(layer: LayerTree, path: str, places: dict[int, str], above: set[int]) -> None:
    if id(layer) in above:
        raise ValueError(f"{path}: a layer is inside of itself; keep no attribute with the layer that it is part of")
    if id(layer) in places:
        raise ValueError(f"{path}: this layer is also {places[id(layer)]}; make one for each place")
    places[id(layer)] = path
    if layer.holds_layers:
        for name, value in vars(layer).items():
            if name not in _OWN:
                _require_plain(path, name, value)
        _require_no_stray_arrays(layer, path)
        if type(layer).children is not LayerTree.children:
            _require_among_children(layer, path)
    for name, child in layer.children():
        _require_constructed(child)
        _visit(child, f"{path}.{name}", places, above | {id(layer)})


def _require_plain(path: str, name: str, value: Any) -> None:
    """Refuse layers among other things."""
    if not isinstance(value, (list, tuple, dict, set, frozenset)):
        return
    values = list(value.values() if isinstance(value, dict) else value)
    layers = [isinstance(one, LayerTree) for one in values]
    nested = any(_holds(one) for one in values if isinstance(one, (list, tuple, dict, set, frozenset)))
    if nested or (any(layers) and (not all(layers) or isinstance(value, (set, frozenset)))):
        raise TypeError(
            f"{path}: the attribute {name} holds layers among other things, got a {type(value).__name__}; give them an "
            "attribute of their own: a layer, or a list, tuple or dict of nothing but layers"
        )


def _require_among_children(layer: LayerTree, path: str) -> None:
    """Refuse attributes with parameters that a class does not give as its layers, as one derived from `Sequential`."""
    tree = list(layer.tree())
    inside, owners = set(map(id, tree)), {id(one.own("params")) for one in tree}
    for name, held in held_by(vars(layer)):
        trained = all(id(owner) in owners for _, owner, _ in held.named_params()) and held.built
        if not trained and id(held) not in inside:
            raise TypeError(
                f"{path}: the attribute {name} holds a layer that is none of its layers, so that nothing trains it; pass "
                "it to super().__init__, or derive the class from xpdl.Layer"
            )


def _holds(value: Any) -> bool:
    if isinstance(value, LayerTree):
        return True
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return False
    return any(map(_holds, value))


def _require_no_stray_arrays(layer: LayerTree, path: str) -> None:
    """Refuse the book's ``self.W`` beside ``self.dW``, which no optimizer sees."""
    attributes = vars(layer)
    owned = {id(value) for value in layer.own("params").values()}
    for name, value in attributes.items():
        if f"d{name}" in attributes and hasattr(value, "shape") and id(value) not in owned:
            raise TypeError(
                f"{path}: the array {name} and its gradient d{name} are attributes, which no optimizer sees; keep them as "
                f"self.params[{name!r}] and self.grads[{name!r}]"
            )
