"""Layers in a row as a model."""

from __future__ import annotations

from xpdl.layers.base import Layer
from xpdl.layers.chain import Chain
from xpdl.models.architecture import register_layer
from xpdl.models.base import Loss, Model


@register_layer
class Sequential(Model, Chain):
    """Layers in a row and a loss: a model to train.

    Parameters
    ----------
    *layers : Layer or (name, Layer)
        In order. A layer is named by its class and number, ``Affine1``, unless a name comes with it.
    loss : LossLayer, an instance or its class, or callable, optional
        The last layer, or a function ``(y, t) -> (loss, dy)`` of outputs and targets. Without it the model can predict but
        not train, and can be a layer of another model.
    seed : int, optional
        Of initial weights and dropout masks; by default they follow `xpdl.seed`.
    fuse : bool
        Compute neighbours such as a convolution and its relu as one (`steps`); False calls each layer by itself.

    Attributes
    ----------
    params : mapping
        ``"Affine1.W"`` -> array: a view of what the layers own. Reading and writing go there.
    layers : dict
    last_layer : LossLayer or None
    last_loss : array () or None
        The loss that the last `gradient` computed on its way, on the device.

    Notes
    -----
    `predict`, `loss`, `accuracy` and `gradient` cast floating input to the model's dtype. `predict` and `accuracy` also
    take arrays of another library or device and answer in that kind; `loss` and `gradient`, which a training loop calls
    at each step, raise `MixedArraysError` rather than move data silently. NaN in the input comes out again, and a row whose
    scores are NaN counts as some class.

    Examples
    --------
    >>> net = Sequential(Affine(units=8), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    >>> net.build((4,))
    (3,)
    >>> list(net.params)
    ['Affine1.W', 'Affine1.b', 'Affine2.W', 'Affine2.b']
    """

    def __init__(
        self,
        *layers: Layer | tuple[str, Layer],
        loss: Loss | None = None,
        seed: int | None = None,
        fuse: bool = True,
    ) -> None:
        super().__init__(*layers, fuse=fuse, loss=loss, seed=seed)
