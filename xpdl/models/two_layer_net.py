"""The two-layer net of the book's chapters 4 and 5."""

from __future__ import annotations

from xpdl import initializers
from xpdl.layers.affine import Affine
from xpdl.layers.relu import Relu
from xpdl.models.book import BookNet
from xpdl.ops.checks import positive_int


class TwoLayerNet(BookNet):
    """Affine, relu, affine, softmax.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
    weight_init_std : float, str or callable
        Standard deviation of normal initial weights, or an initializer (`xpdl.initializers`).
    seed : int, optional

    Notes
    -----
    Parameters ``W1 b1 W2 b2``; layers ``Affine1 Relu1 Affine2``.

    Examples
    --------
    >>> net = TwoLayerNet(784, 50, 10)
    >>> net.params["W1"].shape
    (784, 50)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float | str = 0.01,
        *,
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        input_size = positive_int(input_size, "input_size", owner)
        hidden_size = positive_int(hidden_size, "hidden_size", owner)
        output_size = positive_int(output_size, "output_size", owner)
        initializers.resolve(weight_init_std, f"{owner}: weight_init_std")
        super().__init__(
            [
                ("Affine1", Affine(units=hidden_size, init=weight_init_std)),
                ("Relu1", Relu()),
                ("Affine2", Affine(units=output_size, init=weight_init_std)),
            ],
            (input_size,),
            seed,
            {
                "input_size": input_size,
                "hidden_size": hidden_size,
                "output_size": output_size,
                "weight_init_std": weight_init_std,
            },
        )
