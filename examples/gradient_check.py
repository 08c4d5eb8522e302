"""Is every gradient of a net right, and is a step the same in another precision or library? (chapter 5.7.3)"""

from typing import Any

from shared import options

import xpdl
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream
from xpdl.testing import GradientReport


class ForgetfulRelu(xpdl.Relu):
    """A mistake to be found: the gradient passes where the unit was off, too."""

    def backward(self, dout: Array) -> Array:
        return dout


def net_of(activation: xpdl.Layer, seed: int) -> xpdl.Sequential:
    layers = [
        xpdl.Convolution(filters=4, size=3, use_bias=False),  # the normalization takes a bias away again
        xpdl.BatchNormalization(),
        activation,
        xpdl.Pooling(2, 2),
        xpdl.Affine(units=20),
        xpdl.Dropout(0.3),
        xpdl.Tanh(),
        xpdl.Affine(units=10),
    ]
    return xpdl.Sequential(*layers, loss=xpdl.SoftmaxWithLoss, seed=seed)


def main(argv: list[str] | None = None) -> tuple[GradientReport, str, Any]:
    args = options(__doc__, argv)
    # noise, as digits have places all alike, where the maximum of a window is that of several, and so has several slopes
    x = xpdl.asarray(xpdl.initializers.normal(1.0)((12, 1, 14, 14), Stream(args.seed).generator("x")))
    t = xpdl.asarray([row % 10 for row in range(12)])

    # a net of many kinds of layers, against differences of its loss along random directions
    report = xpdl.check_gradients(net_of(xpdl.Relu(), args.seed), x, t)
    print(report)
    try:
        xpdl.check_gradients(net_of(ForgetfulRelu(), args.seed), x, t)
    except xpdl.GradientCheckError as error:
        mistake = str(error).splitlines()[0]
    print(f"\nwith a mistake planted: {mistake}\n")

    # the same step, with the same dropout masks, in 64 and 32 bits, and on the backend asked for
    places = [xpdl.use("numpy", dtype="float64"), xpdl.use("numpy", dtype="float32")]
    if args.backend != "numpy":
        places.append(xpdl.use(args.backend, dtype="float32"))
    rows = xpdl.compare_backends(net_of(xpdl.Relu(), args.seed), x, t, places)
    return report, mistake, rows


if __name__ == "__main__":
    main()
