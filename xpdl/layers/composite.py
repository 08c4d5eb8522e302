"""Base of compositions of layers, which delegates everything to the layers inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, is_array
from xpdl.layers.base import Layer
from xpdl.layers.parameter_view import ParameterView, UnbuiltView


class Composite(Layer):
    """A layer made of layers; `children` names them. It owns no arrays: `params` shows those of its layers."""

    accepts_train_flg: ClassVar[bool] = True

    #: path of an entry -> the name under which `params` shows it, where that is another
    aliases: Mapping[str, str] = {}

    def __init__(self) -> None:
        # not Layer.__init__: params, grads and state are views here
        self.name = type(self).__name__
        self.training = True

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """The output of the layers inside; `train_flg` stands for the mode of all of them when given."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    @property
    def params(self) -> Any:  # type: ignore[override]
        """Names -> parameters of all layers inside; reading and writing go to the layers' own dicts."""
        return self._parameters() if self.built else UnbuiltView(self._parameters)

    def _parameters(self) -> ParameterView:
        view = self._view("params")
        frozen = [id(layer.own("params")) for layer in self.tree() if layer._frozen]
        view.frozen = [name for name, (owner, _) in view.entries.items() if id(owner) in frozen] if frozen else ()
        return view

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self._view("state")

    @property
    def grads(self) -> dict[str, Array]:  # type: ignore[override]
        """Names -> gradients of the last backward pass."""
        shown = self.aliases
        return {shown.get(path, path): owner[key] for path, owner, key in self.named_grads()}

    @property
    def buffers(self) -> ParameterView:
        """Running statistics by name, which a trained model needs besides `params`."""
        entries = self.state.entries.items()
        return ParameterView({name: (owner, key) for name, (owner, key) in entries if is_array(owner[key])})

    def _view(self, kind: str) -> ParameterView:
        return ParameterView({self.aliases.get(path, path): (owner, key) for path, owner, key in self.named(kind)})

    @property
    def built(self) -> bool:
        for _, layer in self.children():  # noqa: SIM110 - a generator takes twice as long, in every step
            if not layer.built:
                return False
        return True
