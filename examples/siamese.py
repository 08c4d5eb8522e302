"""Two pictures through one net with shared weights: do they show the same digit?"""

import numpy as np
from shared import Split, digits, options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array, array_namespace


class SquaredDifference(xpdl.Layer):
    """``(u - v)^2`` of two inputs."""

    def output_shape(self, *input_shapes: tuple[int, ...]) -> tuple[int, ...]:
        return input_shapes[0]

    def forward(self, *inputs: Array) -> Array:
        array_namespace(*inputs, owner=self.name)
        u, v = inputs
        self.saved = u - v
        return self.saved * self.saved

    def backward(self, dout: Array) -> tuple[Array, Array]:
        du = 2.0 * self.saved * dout
        return du, -du


def pairs(split: Split, count: int, rng: np.random.Generator) -> tuple[Split, Array]:
    """Pairs of pictures, half of them of the same digit."""
    pictures, labels = (xpdl.asnumpy(a) for a in split)
    first = rng.integers(0, len(labels), count)
    second = rng.integers(0, len(labels), count)
    for place in range(0, count, 2):
        second[place] = rng.choice(np.flatnonzero(labels == labels[first[place]]))
    same = (labels[first] == labels[second]).astype(np.int64)
    return (xpdl.asarray(pictures[first]), xpdl.asarray(pictures[second])), xpdl.asarray(same, "int64")


def build(seed: int) -> xpdl.Graph:
    half = xpdl.Sequential(
        *(xpdl.Convolution(filters=8, size=5, stride=2), xpdl.Relu(), xpdl.Pooling(2, 2)),
        *(xpdl.Affine(units=32), xpdl.Relu(), xpdl.Affine(units=16)),
    )
    left, right = xpdl.Input((1, 28, 28), "left"), xpdl.Input((1, 28, 28), "right")
    apart = SquaredDifference()(half(left, name="half"), half(right))
    return xpdl.Graph([left, right], xpdl.Affine(units=2)(apart), loss=xpdl.SoftmaxWithLoss, seed=seed)


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, data=True)
    train, test = digits(args, flatten=False)
    rng = np.random.default_rng(args.seed)
    x, t = pairs(train, 2000 if args.short else 10000, rng)
    x_test, t_test = pairs(test, 500, rng)
    net = build(args.seed)
    how = {"optimizer": xpdl.Adam(lr=0.003), "mini_batch_size": 50, "seed": args.seed, "verbose": not args.short}
    xpdl.Trainer(net, x, t, x_test, t_test, epochs=4 if args.short else 8, **how).train()
    accuracy = net.accuracy(x_test, t_test)
    print(f"same or different: {accuracy:.3f} right of 500 pairs that it has not seen")
    shown = tuple(one[:12, ...] for one in x_test)
    same = xpdl.asnumpy(xpdl.softmax(net.predict(shown)))[:, 1]
    side_by_side = np.concatenate([xpdl.asnumpy(one) for one in shown], axis=3)
    figure = plots.images(side_by_side, titles=[f"same: {share:.2f}" for share in same], columns=4)
    save(figure, args, "siamese")
    return accuracy


if __name__ == "__main__":
    main()
