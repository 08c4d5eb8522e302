"""The gradient of a net's loss, and why the lambda may ignore its argument (chapter 4.4.2)."""

from shared import options

import xpdl
from xpdl.backends.namespaces import Array


class SimpleNet:
    """Two inputs, three classes, one matrix of weights."""

    def __init__(self, W: Array) -> None:
        self.W = W

    def predict(self, x: Array) -> Array:
        return x @ self.W

    def loss(self, x: Array, t: Array) -> Array:
        return xpdl.cross_entropy_error(xpdl.softmax(self.predict(x)), t)


def main(argv: list[str] | None = None) -> Array:
    options(__doc__, argv)
    net = SimpleNet(xpdl.asarray([[0.47355232, 0.9977393, 0.84668094], [0.85557411, 0.03563661, 0.69422093]]))
    x, t = xpdl.asarray([0.6, 0.9]), xpdl.asarray([0.0, 0.0, 1.0])
    print("loss", round(float(net.loss(x, t)), 4))

    # numerical_gradient changes net.W itself, element by element, while the lambda reads it: the argument w is net.W
    ignoring = xpdl.asnumpy(xpdl.numerical_gradient(lambda w: net.loss(x, t), net.W))

    # JAX arrays are immutable: the lambda gets changed copies and must use them
    using = xpdl.asnumpy(xpdl.numerical_gradient(lambda w: SimpleNet(w).loss(x, t), net.W))
    print("lambda that uses its argument:\n", using.round(4))
    print("lambda that ignores it:\n", ignoring.round(4))
    if not ignoring.any():
        print("These arrays are immutable: net.W never changed, and the loss with it.")
    return using


if __name__ == "__main__":
    main()
