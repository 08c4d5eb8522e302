"""The small convolutional net of the book's chapter 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xpdl import initializers
from xpdl.layers.affine import Affine
from xpdl.layers.convolution import Convolution
from xpdl.layers.pooling import Pooling
from xpdl.layers.relu import Relu
from xpdl.models.book import BookNet
from xpdl.ops.checks import pair, positive_int, sizes

_CONV = {"filter_num": 30, "filter_size": 5, "pad": 0, "stride": 1}


class SimpleConvNet(BookNet):
    """Convolution, relu, 2x2 max pooling, affine, relu, affine, softmax.

    Parameters
    ----------
    input_dim : (C, H, W)
    conv_param : mapping
        ``filter_num``, ``filter_size``, ``pad`` and ``stride``; what is missing has the default.
    hidden_size, output_size : int
    weight_init_std : float, str or callable
        Standard deviation of normal initial weights, or an initializer (`xpdl.initializers`).
    seed : int, optional

    Notes
    -----
    Parameters ``W1 b1`` (convolution) to ``W3 b3``; layers ``Conv1 Relu1 Pool1 Affine1 Relu2 Affine2``. Sizes between the
    layers follow from the shapes, while the book's formula fails when the convolution's output has an odd side.
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param: Mapping[str, int] = _CONV,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float | str = 0.01,
        *,
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        input_dim = sizes(input_dim, "input_dim", owner)
        hidden_size = positive_int(hidden_size, "hidden_size", owner)
        output_size = positive_int(output_size, "output_size", owner)
        initializers.resolve(weight_init_std, f"{owner}: weight_init_std")
        conv = conv_options(conv_param, _CONV, "SimpleConvNet: conv_param")
        super().__init__(
            [
                ("Conv1", make_convolution(conv, weight_init_std)),
                ("Relu1", Relu()),
                ("Pool1", Pooling(2, 2, stride=2)),
                ("Affine1", Affine(units=hidden_size, init=weight_init_std)),
                ("Relu2", Relu()),
                ("Affine2", Affine(units=output_size, init=weight_init_std)),
            ],
            input_dim,
            seed,
            {
                "input_dim": list(input_dim),
                "conv_param": conv,
                "hidden_size": hidden_size,
                "output_size": output_size,
                "weight_init_std": weight_init_std,
            },
        )


def conv_options(given: Mapping[str, int], default: Mapping[str, int], owner: str) -> dict[str, int]:
    """`given` over `default`, refusing keys that mean nothing."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{owner}: expected a dict with some of {', '.join(default)}, got {given!r}")
    unknown = set(given) - set(default)
    if unknown:
        raise ValueError(f"{owner}: unknown {', '.join(sorted(map(str, unknown)))}; it takes {', '.join(default)}")
    conv = {**default, **given}
    positive_int(conv["filter_num"], "filter_num", owner)
    for name, least in (("filter_size", 1), ("pad", 0), ("stride", 1)):
        pair(conv[name], name, owner, least)
    return conv


def make_convolution(conv: Mapping[str, int], init: float | str) -> Convolution:
    """A convolution from the book's dict of options."""
    return Convolution(
        filters=conv["filter_num"], size=conv["filter_size"], stride=conv["stride"], pad=conv["pad"], init=init
    )
