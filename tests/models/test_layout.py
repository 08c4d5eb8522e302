"""Images with the channels last are noticed where a model is built for them."""

import numpy as np
import pytest

import xpdl


def model(*layers):
    return xpdl.Sequential(*layers, xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)


FIRST = {
    "convolution": lambda: xpdl.Convolution(filters=2, size=1),
    "pooling": lambda: xpdl.Pooling(2, 1),
    "average pooling": lambda: xpdl.AveragePooling(2, 1),
    "global average pooling": xpdl.GlobalAveragePooling,
    "global max pooling": xpdl.GlobalMaxPooling,
    "block": lambda: xpdl.Residual(xpdl.AveragePooling(1, 1, stride=1)),
}
LAST = [(28, 28, 3), (28, 28, 1), (8, 30, 4)]


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("shape", LAST)
def test_channels_last_are_warned_of(first, shape):
    net = model(xpdl.Relu(), FIRST[first]())
    with pytest.warns(
        UserWarning, match=rf"taken for {shape[0]} channels of .*; .* pass x\.transpose\(0, 3, 1, 2\)"
    ) as caught:
        net.build(shape)
    assert len(caught) == 1


def test_trainer_warns_too():
    x, t = np.zeros((4, 28, 28, 3), "f"), np.asarray([0, 1, 0, 1])
    with pytest.warns(UserWarning, match="28 channels of 28 x 3 pixels"):
        xpdl.Trainer(model(FIRST["convolution"]()), x, t, epochs=1, verbose=False)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (["convolution"], (3, 28, 28)),
        (["convolution"], (1, 28, 28)),
        (["convolution"], (28, 28, 2)),
        (["convolution"], (28, 4, 3)),
        (["convolution"], (4, 28, 1)),
        (["convolution"], (28, 28, 28)),
        ([], (28, 28, 3)),
    ],
)
def test_other_shapes_are_not(layers, shape, recwarn):
    net = model(*(FIRST[name]() for name in layers))
    net.build(shape)
    net.summary()
    assert not recwarn.list


def test_layers_behind_an_affine_one_see_no_images(recwarn):
    net = xpdl.Sequential(xpdl.Flatten(), xpdl.Affine(units=2))
    net.build((28, 28, 3))
    assert net.output_shape((28, 28, 3)) == (2,)
    assert not recwarn.list


def test_summary_shows_the_input(capsys):
    net = model(FIRST["convolution"]())
    net.summary((3, 5, 6))
    assert capsys.readouterr().out.startswith("Sequential, input (N, 3, 5, 6), loss SoftmaxWithLoss\n")
