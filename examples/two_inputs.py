"""A net of two inputs: is the digit in a picture larger than a number?"""

import numpy as np
from shared import Split, digits, options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array


def with_numbers(split: Split, rng: np.random.Generator) -> tuple[dict[str, Array], Array]:
    """Pictures, each with a random number as a row of zeros and a one; and whether the digit is larger."""
    pictures, labels = split
    numbers = rng.integers(0, 10, len(labels))
    larger = (xpdl.asnumpy(labels) > numbers).astype(np.int64)
    return {"picture": pictures, "number": xpdl.asarray(np.eye(10)[numbers])}, xpdl.asarray(larger, "int64")


def build(seed: int) -> xpdl.Graph:
    """One branch looks at the picture; the number comes in where its features are."""
    picture, number = xpdl.Input((1, 28, 28), "picture"), xpdl.Input((10,), "number")
    seen = xpdl.Relu()(xpdl.Convolution(filters=8, size=5, stride=2)(picture))
    seen = xpdl.Relu()(xpdl.Affine(units=32)(xpdl.Pooling(2, 2)(seen)))
    both = xpdl.Relu()(xpdl.Affine(units=32)(xpdl.Concatenate()(seen, number)))
    return xpdl.Graph([picture, number], xpdl.Affine(units=2)(both), loss=xpdl.SoftmaxWithLoss, seed=seed)


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, data=True)
    train, test = digits(args, flatten=False, train=1000 if args.short else None, test=500 if args.short else None)
    rng = np.random.default_rng(args.seed)
    (x, t), (x_test, t_test) = with_numbers(train, rng), with_numbers(test, rng)
    net = build(args.seed)
    how = {"optimizer": xpdl.Adam(lr=0.003), "mini_batch_size": 50, "seed": args.seed, "verbose": not args.short}
    xpdl.Trainer(net, x, t, x_test, t_test, epochs=3 if args.short else 10, **how).train()
    accuracy = net.accuracy(x_test, t_test)
    print(f"larger or not: {accuracy:.3f} right, {float(xpdl.asnumpy(t_test).mean()):.3f} are larger")
    save(plots.network(net), args, "two_inputs")
    return accuracy


if __name__ == "__main__":
    main()
