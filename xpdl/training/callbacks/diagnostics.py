"""Diagnostics of the layers of a network over a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, copied
from xpdl.data.structure import arrays_of, map_arrays, require_arrays
from xpdl.errors import ShapeError
from xpdl.layers.layerwise import forward_by_layer, layers_of
from xpdl.layers.relu import Relu
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.tanh import Tanh
from xpdl.ops.checks import number, require_floating
from xpdl.training.callbacks.base import Callback

_WIDE = 32  # bits of a dtype in which squares may be added up

History = dict[str, dict[str, list[float]]]


class Diagnostics(Callback):
    """Dead relu units, saturated sigmoids and tanhs, and sizes of updates, measured once an epoch.

    Parameters
    ----------
    x : floating array (N, ...)
        A fixed sample on which the layers are looked at, in evaluation; a few hundred rows of the training set. It is moved
        to the network's library and device.
    margin : float
        In (0, 0.5): a sigmoid or tanh counts as saturated in this share of its range at either end.

    Attributes
    ----------
    history : dict
        What `xpdl.plots.diagnostics` takes as its keywords, each list with one number an epoch:

        - ``"dead_relu"``: relu layer -> share of its units that are 0 for every row of `x`, and so learn nothing from them.
          A unit of an image layer is a channel, 0 at every position.
        - ``"saturation"``: sigmoid or tanh layer -> share of its outputs near the ends, where hardly any gradient passes.
        - ``"update_ratio"``: parameter -> L2 norm of what the epoch's last step changed, relative to that of the parameter
          before it. About 1e-3 is where training usually goes well.

    Notes
    -----
    The network needs the dict ``layers``, as models of xpdl and the book's have; layers inside blocks are looked at, too.
    With `xpdl.training.EMA`, layers are looked at with the averages, and updates are those of the weights.

    Examples
    --------
    >>> x, t = xpdl.data.moons(200, noise=0.1, seed=0)
    >>> net = Sequential(Affine(units=16), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    >>> layers = Diagnostics(x[:50])
    >>> trainer = Trainer(net, x, t, x, t, epochs=3, verbose=False, callbacks=[layers], seed=0)
    >>> history = trainer.train()
    >>> [(what, name, len(values)) for what, found in layers.history.items() for name, values in found.items()][:2]
    [('dead_relu', 'Relu1', 3), ('update_ratio', 'Affine1.W', 3)]
    """

    def __init__(self, x: Array, *, margin: float = 0.05) -> None:
        require_arrays(x, "Diagnostics")
        for _, one in arrays_of(x):
            require_floating(one, "Diagnostics")
            if one.ndim == 0 or one.shape[0] == 0:
                raise ShapeError(f"Diagnostics: expected x (N, ...) of at least one row, got shape {tuple(one.shape)}")
        self.x = x
        self.margin = number(margin, "margin", "Diagnostics", "in (0, 0.5)")
        self.history: History = {"dead_relu": {}, "saturation": {}, "update_ratio": {}}
        self._sample = x
        self._before: dict[str, Array] = {}

    def on_train_begin(self, trainer: Any) -> None:
        if not isinstance(getattr(trainer.network, "layers", None), Mapping):
            raise TypeError(f"Diagnostics: expected a network with a dict of layers, got {trainer.network!r}")
        if trainer.iter_per_epoch is None:
            raise TypeError(
                "Diagnostics: needs the number of batches of an epoch, which x_train does not know; give it a __len__"
            )
        self._sample, self._before = map_arrays(trainer.backend.asarray, self.x), {}

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        if step % trainer.iter_per_epoch == 0:
            params = trainer.network.params
            self._before = {name: copied(p) for name, p in params.items()}

    def on_batch_end(self, trainer: Any, step: int) -> None:
        before, self._before = self._before, {}
        params = trainer.network.params
        for name, (change, size) in _read({name: _squares(params[name], old) for name, old in before.items()}).items():
            ratio = math.sqrt(change) / math.sqrt(size) if size else 0.0 if not change else math.inf
            self._note("update_ratio", name, ratio)

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        shares = {
            (what, path): measure(y)
            for path, layer, y, _ in forward_by_layer(layers_of(trainer.network), self._sample, False)
            for what, kind, measure in self._measures()
            if isinstance(layer, kind)
        }
        for (what, path), share in _read(shares).items():
            self._note(what, path, float(share))

    def _measures(self) -> tuple[tuple[str, type, Callable[[Array], Array]], ...]:
        low, high = self.margin, 1.0 - self.margin
        return (
            ("dead_relu", Relu, _dead),
            ("saturation", Sigmoid, lambda y: _outside(y, low, high)),
            ("saturation", Tanh, lambda y: _outside(y, 2.0 * low - 1.0, 2.0 * high - 1.0)),
        )

    def _note(self, what: str, name: str, value: float) -> None:
        self.history[what].setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """The history, flat: ``"dead_relu/Relu1"`` -> list."""
        return {f"{what}/{name}": list(v) for what, found in self.history.items() for name, v in found.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.history = {what: {} for what in self.history}
        for path, values in state.items():
            what, _, name = path.partition("/")
            self.history[what][name] = [float(value) for value in values]


def _dead(y: Array) -> Array:
    """Share of units, of images channels, that are 0 everywhere."""
    xp = array_namespace(y)
    return _share(xp.all(y == 0.0, axis=tuple(axis for axis in range(y.ndim) if axis != 1)))


def _outside(y: Array, low: float, high: float) -> Array:
    return _share((y < low) | (y > high))


def _share(flags: Array) -> Array:
    xp = array_namespace(flags)
    return xp.mean(xp.astype(flags, xp.float32))


def _squares(new: Array, old: Array) -> Array:
    """Sums of squares of a change, and of what was changed."""
    xp = array_namespace(new, old)
    if xp.finfo(old.dtype).bits < _WIDE:
        new, old = xp.astype(new, xp.float32), xp.astype(old, xp.float32)
    return xp.stack([xp.sum((new - old) ** 2), xp.sum(old**2)])


def _read(values: Mapping[Any, Array]) -> dict[Any, Any]:
    """`values`, arrays of one shape, as NumPy arrays: a device is waited for once."""
    if not values:
        return {}
    xp = array_namespace(*values.values())
    dtype = xp.result_type(*values.values())
    return dict(zip(values, asnumpy(xp.stack([xp.astype(value, dtype) for value in values.values()])), strict=True))
