"""The fully connected nets of the book's chapter 6."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from xpdl import initializers
from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened
from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.dropout import Dropout
from xpdl.layers.relu import Relu
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.tanh import Tanh
from xpdl.models.book import BookNet
from xpdl.ops.checks import flag, number, positive_int, sizes

_ACTIVATIONS: dict[str, type[Layer]] = {"relu": Relu, "sigmoid": Sigmoid, "tanh": Tanh}


class MultiLayerNetExtend(BookNet):
    """Hidden layers of affine, batch normalisation, activation and dropout, then affine and softmax.

    Parameters
    ----------
    input_size : int
    hidden_size_list : sequence of ints
        Units of each hidden layer.
    output_size : int
    activation : {"relu", "sigmoid", "tanh"}
    weight_init_std : float, str or callable
        Standard deviation of normal initial weights, or an initializer; the book's "relu" means "he" and "sigmoid"
        "xavier".
    weight_decay_lambda : float
        Adds ``0.5 lambda sum(W^2)`` over all ``W`` to the loss.
    use_dropout, use_batchnorm : bool
        Whether hidden layers have them.
    dropout_ration : float
        Probability of dropping (the book's spelling), where `use_dropout` says so: the book's scripts switch there.
    seed : int, optional

    Notes
    -----
    Parameters ``W1 b1 gamma1 beta1 W2 ...``; layers ``Affine1 BatchNorm1 Activation_function1 Dropout1 ...``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        *,
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        input_size = positive_int(input_size, "input_size", owner)
        hidden_size_list = sizes(hidden_size_list, "hidden_size_list", owner)
        output_size = positive_int(output_size, "output_size", owner)
        initializers.resolve(weight_init_std, f"{owner}: weight_init_std")
        if not isinstance(activation, str) or activation.lower() not in _ACTIVATIONS:
            raise ValueError(f"{owner}: activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        self.weight_decay_lambda = number(weight_decay_lambda, "weight_decay_lambda", owner, "at least 0")
        flag(use_dropout, "use_dropout", owner)
        flag(use_batchnorm, "use_batchnorm", owner)
        dropout_ration = number(dropout_ration, "dropout_ration", owner, "in [0, 1)")
        hidden = ("self", "seed", "owner", "__class__")
        config = {name: value for name, value in locals().items() if name not in (*hidden, "hidden")}
        config["hidden_size_list"] = list(hidden_size_list)
        layers: list[tuple[str, Layer]] = []
        for k, units in enumerate(hidden_size_list, start=1):
            layers.append((f"Affine{k}", Affine(units=units, init=weight_init_std)))
            if use_batchnorm:
                norm = BatchNormalization()
                norm.allow_one_row = True  # as the book's ch06/batch_norm_gradient_check.py does
                layers.append((f"BatchNorm{k}", norm))
            layers.append((f"Activation_function{k}", _ACTIVATIONS[activation.lower()]()))
            if use_dropout:
                layers.append((f"Dropout{k}", Dropout(dropout_ration)))
        layers.append((f"Affine{len(hidden_size_list) + 1}", Affine(units=output_size, init=weight_init_std)))
        super().__init__(layers, (input_size,), seed, config)

    def loss(self, x: Array, t: Array, train_flg: bool = False, sample_weight: Array | None = None) -> Array:
        """The loss of a batch, weight decay included."""
        loss = super().loss(x, t, train_flg, sample_weight)
        if not self.weight_decay_lambda:
            return loss
        xp = array_namespace(loss)
        squares = [xp.sum(xp.multiply(W, W)) for W in map(widened, self._weights().values())]
        total = functools.reduce(xp.add, squares)
        return xp.add(loss, xp.multiply(total, 0.5 * self.weight_decay_lambda))

    def gradient(self, x: Array, t: Array, sample_weight: Array | None = None) -> dict[str, Array]:
        """Gradients of the loss by backpropagation, weight decay included."""
        grads = super().gradient(x, t, sample_weight)
        if self.weight_decay_lambda:
            # gradients of several ranks are added up
            strength = self.weight_decay_lambda * (1.0 if self.share is None else self.share.factor)
            for name, W in self._weights().items():
                if name not in grads:  # frozen
                    continue
                xp = array_namespace(W)
                grad = xp.add(widened(grads[name]), xp.multiply(widened(W), strength))
                grads[name] = rounded_to(grads[name].dtype, grad)
        return grads

    def _weights(self) -> dict[str, Array]:
        return {name: detached(value) for name, value in self.params.items() if name.startswith("W")}


class MultiLayerNet(MultiLayerNetExtend):
    """`MultiLayerNetExtend` without its dropout and batch normalisation: affine and activation in turn, softmax last."""

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: float | str = "relu",
        weight_decay_lambda: float = 0,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size_list, output_size, activation, weight_init_std, weight_decay_lambda, seed=seed
        )
        config: dict[str, Any] = dict(self.config or {})
        for name in ("use_dropout", "dropout_ration", "use_batchnorm"):
            del config[name]
        self.config = config
