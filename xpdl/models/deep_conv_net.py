"""The deep convolutional net of the book's chapter 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.dropout import Dropout
from xpdl.layers.pooling import Pooling
from xpdl.layers.relu import Relu
from xpdl.models.book import BookNet
from xpdl.models.simple_conv_net import conv_options, make_convolution
from xpdl.ops.checks import positive_int, sizes

_DEFAULT = {"filter_num": 16, "filter_size": 3, "pad": 1, "stride": 1}


class DeepConvNet(BookNet):
    """Three blocks of two 3x3 convolutions with relu and a 2x2 pooling, then two affine layers with dropout, softmax.

    Parameters
    ----------
    input_dim : (C, H, W)
    conv_param_1 to conv_param_6 : mapping
        ``filter_num``, ``filter_size``, ``pad`` and ``stride`` of each convolution.
    hidden_size, output_size : int
    seed : int, optional

    Notes
    -----
    Parameters ``W1 b1`` to ``W8 b8``; initial weights are He's. As in the book there is dropout also after the last affine
    layer, on the scores themselves: kept so that its trained weights give its accuracy.
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param_1: Mapping[str, int] = _DEFAULT,
        conv_param_2: Mapping[str, int] = _DEFAULT,
        conv_param_3: Mapping[str, int] = {**_DEFAULT, "filter_num": 32},
        conv_param_4: Mapping[str, int] = {**_DEFAULT, "filter_num": 32, "pad": 2},
        conv_param_5: Mapping[str, int] = {**_DEFAULT, "filter_num": 64},
        conv_param_6: Mapping[str, int] = {**_DEFAULT, "filter_num": 64},
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        input_dim = sizes(input_dim, "input_dim", owner)
        hidden_size = positive_int(hidden_size, "hidden_size", owner)
        output_size = positive_int(output_size, "output_size", owner)
        given = (conv_param_1, conv_param_2, conv_param_3, conv_param_4, conv_param_5, conv_param_6)
        convs = {
            f"conv_param_{k}": conv_options(conv, _DEFAULT, f"{owner}: conv_param_{k}")
            for k, conv in enumerate(given, start=1)
        }
        layers: list[tuple[str, Layer]] = []
        for k, conv in enumerate(convs.values(), start=1):
            layers += [(f"Conv{k}", make_convolution(conv, "he")), (f"Relu{k}", Relu())]
            if k % 2 == 0:
                layers.append((f"Pool{k // 2}", Pooling(2, 2, stride=2)))
        layers += [
            ("Affine1", Affine(units=hidden_size, init="he")),
            ("Relu7", Relu()),
            ("Dropout1", Dropout(0.5)),
            ("Affine2", Affine(units=output_size, init="he")),
            ("Dropout2", Dropout(0.5)),
        ]
        super().__init__(
            layers,
            input_dim,
            seed,
            {"input_dim": list(input_dim), **convs, "hidden_size": hidden_size, "output_size": output_size},
        )
