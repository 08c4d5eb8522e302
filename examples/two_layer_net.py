"""A two-layer net by numerical and by backpropagated gradients, and the check between them (chapters 4.5 and 5.7)."""

import time
from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, argv, data=True)
    (x, t), test = digits(args, train=300 if args.short else None)
    # both ways on digits of 7 x 7 pixels and 10 hidden units: 610 parameters, two forward passes for each
    small = xpdl.asarray(xpdl.asnumpy(x[:10, :]).reshape(-1, 28, 28)[:, 2::4, 2::4].reshape(-1, 49))
    net = xpdl.TwoLayerNet(49, 10, 10, weight_init_std=0.1, seed=args.seed)
    start = time.perf_counter()
    numerical = net.numerical_gradient(small, t[:10])
    middle = time.perf_counter()
    backprop = net.gradient(small, t[:10])
    print(f"numerical gradient {middle - start:.3f} s, backpropagation {time.perf_counter() - middle:.5f} s")
    differences = {}
    for name in net.params:
        differences[name] = float(abs(xpdl.asnumpy(numerical[name]) - xpdl.asnumpy(backprop[name])).mean())
        print(f"mean difference of {name}: {differences[name]:.1e}")

    # the gradients agree, so train with backpropagation, which is fast
    net = xpdl.TwoLayerNet(784, 50, 10, seed=args.seed)
    epochs = 2 if args.short else 17
    how: dict[str, Any] = {"optimizer": xpdl.SGD(lr=0.1), "seed": args.seed, "verbose": not args.short}
    history = xpdl.Trainer(net, x, t, *test, epochs=epochs, **how).train()
    print(f"test accuracy {history.test_acc_list[-1]:.4f}")
    save(plots.learning_curves(history, title="TwoLayerNet"), args, "two_layer_net")
    return differences


if __name__ == "__main__":
    main()
