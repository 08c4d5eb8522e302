"""Layers in a graph as a model: branches, several inputs and outputs, shared weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.random import Stream
from xpdl.layers.dag import Dag
from xpdl.layers.function_loss import last_layer
from xpdl.layers.losses import LossLayer
from xpdl.layers.nodes import in_order
from xpdl.layers.several_losses import SeveralLosses, weights_of
from xpdl.models.architecture import register_layer
from xpdl.models.base import Loss, Model

Losses = Loss | Sequence[Loss] | Mapping[str, Loss]


@register_layer
class Graph(Model, Dag):
    """Layers in a graph and a loss: a model with branches, several inputs and outputs, or shared weights.

    Layers are put together by calls with nodes: ``x = Input((4,))`` is one, ``y = Affine(units=3)(x)`` another. A layer that
    is called in several places has one set of weights, whose gradients add up. A `Sequential` or another `Graph` is a layer,
    too.

    Parameters
    ----------
    inputs : Input, or sequence of them
        Several are given to the network as a tuple in this order, or as a dict by their names.
    outputs : Node, or sequence or dict of them
        The network gives one array, a tuple, or a dict.
    loss : LossLayer, an instance or its class, or callable; a sequence or dict of them for several outputs, optional
        As of a `Sequential`. Targets come as a tuple or dict of the outputs' names, which `outputs` lists. One loss for
        several outputs gets them all, as the network gives them.
    loss_weights : sequence or dict of float, optional
        At least 0, by which the losses of several outputs are multiplied before they are added up.
    seed : int, optional
        Of initial weights and dropout masks; by default they follow `xpdl.seed`.
    fuse : bool
        As of a `Sequential`, of layers in a row.

    Attributes
    ----------
    params : mapping
        ``"Affine1.W"`` -> array: a view of what the layers own. Reading and writing go there.
    layers, inputs, outputs : dict
        By name: layers, shapes of the inputs, and the numbers of the outputs in `uses`.
    last_layer : LossLayer or None
    last_loss : array () or None
        The loss that the last `gradient` computed on its way, on the device.

    Raises
    ------
    ShapeError
        Where a layer is called: if it cannot take rows of these shapes.
    TypeError, ValueError
        If nodes hang on an input that is not among `inputs`, no output depends on one that is, a layer is in two places
        other than by calls, or losses are not as many as outputs.

    Notes
    -----
    The backward pass is the graph walked in reverse. It computes nothing for values that no parameter, or asked-for input,
    stands before; each gradient is dropped once it is used.

    Examples
    --------
    >>> x = Input((4,))
    >>> h = Relu()(Affine(units=8)(x))
    >>> net = Graph(x, Affine(units=3)(Concatenate()(h, x)), loss=SoftmaxWithLoss, seed=0)
    >>> net.build()
    (3,)
    >>> net.params["Affine2.W"].shape
    (12, 3)
    >>> sorted(net.gradient(np.ones((2, 4), dtype=np.float32), np.array([0, 2])))
    ['Affine1.W', 'Affine1.b', 'Affine2.W', 'Affine2.b']
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        loss: Losses | None = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        seed: int | None = None,
        fuse: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, fuse=fuse, seed=seed)
        self.last_layer = _loss_of(self.name, loss, loss_weights, list(self.outputs))
        shapes = tuple(self.inputs.values())
        self.input_shape = shapes if len(shapes) > 1 else shapes[0]

    def build(self, input_shape: Any = None, *, stream: Stream | None = None, backend: Backend | None = None) -> Any:
        """Create the parameters, and return the output's shape, a tuple or dict of shapes for several.

        The shapes of the inputs are known: `input_shape`, a tuple or dict where there are several, is only compared. A seed
        that the model was made with comes before `stream`, also where it is a layer of another model.
        """
        known = self.input_shape
        out = super().build(known if input_shape is None else input_shape, stream=stream, backend=backend)
        self.input_shape = known
        return out

    def get_config(self) -> dict[str, Any]:
        last, config = self.last_layer, {**Dag.get_config(self), "seed": self.seed}
        if isinstance(last, SeveralLosses):
            return {**config, "loss": dict(last.losses), "loss_weights": dict(last.weights)}
        return {**config, "loss": last}

    def __repr__(self) -> str:
        ends = [f"{name} {shape}" for name, shape in self.inputs.items()]
        options = "" if self.last_layer is None else f", loss={self.last_layer!r}"
        return (
            f"{type(self).__name__}({', '.join(ends)} -> {', '.join(self.outputs)}; {len(self.layers)} layers{options})"
        )


def _loss_of(owner: str, loss: Any, weights: Any, names: list[str]) -> LossLayer | None:
    """Return the last layer of a graph with outputs of these names."""
    if not isinstance(loss, (list, tuple, Mapping)):
        if weights is not None:
            raise ValueError(
                f"{owner}: loss_weights are for a list or dict of losses, got {weights!r} beside loss={loss!r}"
            )
        return last_layer(loss, owner)
    if not isinstance(loss, Mapping) and len(loss) != len(names):
        raise ValueError(f"{owner}: loss must be one for each output ({', '.join(names)}), got {loss!r}")
    given = in_order(loss, names, owner, "loss") if isinstance(loss, Mapping) else loss
    losses = {name: last_layer(one, owner) for name, one in zip(names, given, strict=True)}
    found = {name: one for name, one in losses.items() if one is not None}
    if len(found) < len(losses):
        raise TypeError(f"{owner}: loss must be one for each output ({', '.join(names)}), got {loss!r}")
    return SeveralLosses(found, weights_of(weights, names, owner))
