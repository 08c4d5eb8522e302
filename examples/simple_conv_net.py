"""A convolutional net on digits: how it learns, and its filters before and after (chapters 7.5 and 7.6)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> xpdl.History:
    args = options(__doc__, argv, data=True)
    train, test = digits(args, flatten=False, train=500 if args.short else None, test=100 if args.short else None)
    net = xpdl.SimpleConvNet(seed=args.seed)
    before = xpdl.asnumpy(net.params["W1"])
    how: dict[str, Any] = {"optimizer": xpdl.Adam(lr=0.005), "seed": args.seed, "verbose": not args.short}
    history = xpdl.Trainer(net, *train, *test, epochs=1 if args.short else 6, mini_batch_size=50, **how).train()
    print(f"test accuracy {history.test_acc_list[-1]:.4f}")
    net.save_params(args.out / "simple_conv_net.safetensors")

    save(plots.learning_curves(history, title="SimpleConvNet"), args, "simple_conv_net")
    save(plots.filters({"before": before, "after": net.params["W1"]}), args, "simple_conv_net_filters")
    save(plots.confusion_matrix(test[1], net.predict(test[0])), args, "simple_conv_net_confusion")
    return history


if __name__ == "__main__":
    main()
