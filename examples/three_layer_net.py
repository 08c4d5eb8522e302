"""Three layers written out, with the weights of the book's example (chapter 3.4)."""

from shared import options

import xpdl
from xpdl.backends.namespaces import Array


def main(argv: list[str] | None = None) -> Array:
    options(__doc__, argv)
    weights = [
        [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]],
        [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]],
        [[0.1, 0.3], [0.2, 0.4]],
    ]
    biases = [[0.1, 0.2, 0.3], [0.1, 0.2], [0.1, 0.2]]
    W1, W2, W3 = map(xpdl.asarray, weights)
    b1, b2, b3 = map(xpdl.asarray, biases)
    x = xpdl.asarray([1.0, 0.5])
    z1 = xpdl.sigmoid(x @ W1 + b1)
    z2 = xpdl.sigmoid(z1 @ W2 + b2)
    y = xpdl.identity_function(z2 @ W3 + b3)
    print("by hand    ", xpdl.asnumpy(y))

    # the same of layers, which take the weights as they are
    layers = [xpdl.Affine(W1, b1), xpdl.Sigmoid(), xpdl.Affine(W2, b2), xpdl.Sigmoid(), xpdl.Affine(W3, b3)]
    net = xpdl.Sequential(*layers)
    print("of layers  ", xpdl.asnumpy(net.predict(xpdl.asarray([[1.0, 0.5]])))[0])
    print("as softmax ", xpdl.asnumpy(xpdl.softmax(y)))
    return xpdl.asnumpy(y)


if __name__ == "__main__":
    main()
