"""The losses of a network of several outputs as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xpdl.backends.namespaces import Array, on_its_device
from xpdl.layers.losses import LossLayer
from xpdl.layers.nodes import in_order
from xpdl.ops.checks import number


class SeveralLosses(LossLayer):
    """The weighted sum of a loss for each output.

    Parameters
    ----------
    losses : dict of str to LossLayer
        By the names of the outputs, in their order.
    weights : dict of str to float
        At least 0.

    Attributes
    ----------
    values : dict of str to array ()
        The last loss of each output, not weighted.
    weight : int or array ()
        The divisor of the mean of the first loss, which stands for all: they differ where a loss weighs classes.
    """

    classifies = False

    def __init__(self, losses: Mapping[str, LossLayer], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses, self.weights = dict(losses), dict(weights)
        self.values: dict[str, Any] = {}

    def children(self) -> Iterator[tuple[str, LossLayer]]:
        yield from self.losses.items()

    def forward(self, x: Any, t: Any = None, sample_weight: Array | None = None) -> Array:
        """The weighted sum of the losses of outputs `x` against targets `t`, tuples or dicts of arrays."""
        if t is None:
            raise TypeError(f"{self.name}: forward(x, t) needs the targets t")
        self.y, self.t = self._ordered(x, "outputs"), self._ordered(t, "targets")
        weighted = () if sample_weight is None else (sample_weight,)
        self.values = {
            name: loss.forward(y, one, *weighted)
            for (name, loss), y, one in zip(self.losses.items(), self.y, self.t, strict=True)
        }
        self.weight = next(iter(self.losses.values())).weight
        self.loss = _weighted_sum(list(self.values.values()), [self.weights[name] for name in self.values])
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> tuple[Array, ...]:
        """``dx`` for each output."""
        self.require_saved(self.loss)
        return tuple(loss.backward(_scaled(dout, self.weights[name])) for name, loss in self.losses.items())

    def activation(self, x: Any) -> Any:
        """The outputs, each after the activation of its loss, in the form of `x`."""
        scores = self._ordered(x, "outputs")
        y = [loss.activation(one) for loss, one in zip(self.losses.values(), scores, strict=True)]
        return dict(zip(self.losses, y, strict=True)) if isinstance(x, Mapping) else tuple(y)

    def correct(self, x: Any, t: Any) -> Array:
        raise TypeError(
            f"{self.name}: a network of several outputs has no single accuracy; compute that of one from predict(x)"
        )

    def check_targets(self, t: Any, output_shape: Any, owner: str) -> None:
        for name, loss, one, shape in self._each(t, output_shape):
            loss.check_targets(one, shape, f"{owner}[{name!r}]")

    def check_labels(self, t: Any, output_shape: Any, owner: str) -> None:
        for name, loss, one, shape in self._each(t, output_shape):
            loss.check_labels(one, shape, f"{owner}[{name!r}]")

    def _each(self, t: Any, output_shape: Any) -> Iterator[tuple[str, LossLayer, Any, Any]]:
        """Yield the name of each output, its loss, its targets and its shape."""
        shapes = self._ordered(output_shape, "output shapes")
        return zip(self.losses, self.losses.values(), self._ordered(t, "targets"), shapes, strict=True)

    def _ordered(self, value: Any, what: str) -> list[Any]:
        return in_order(value, tuple(self.losses), self.name, what)

    def __repr__(self) -> str:
        weights = {name: "" if weight == 1 else f"{weight:g} * " for name, weight in self.weights.items()}
        shown = [f"{name}={weights[name]}{loss!r}" for name, loss in self.losses.items()]
        return f"{type(self).__name__}({', '.join(shown)})"


def weights_of(weights: Any, names: Sequence[str], owner: str) -> dict[str, float]:
    """Return the weight of the loss of each output, by default 1."""
    given = [1.0] * len(names) if weights is None else in_order(weights, names, owner, "loss_weights")
    found = [
        number(one, f"loss_weights[{name!r}]", owner, "at least 0") for name, one in zip(names, given, strict=True)
    ]
    if not any(found):
        raise ValueError(f"{owner}: loss_weights are all 0, which leaves nothing to train with")
    return dict(zip(names, found, strict=True))


@on_its_device
def _weighted_sum(values: list[Array], weights: list[float]) -> Array:
    terms = [value * weight for value, weight in zip(values, weights, strict=True)]
    return sum(terms[1:], start=terms[0])


@on_its_device
def _scaled(dout: Array | float, weight: float) -> Array | float:
    return dout * weight
