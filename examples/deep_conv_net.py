"""DeepConvNet, the book's recipe for more than 99 % of the digits (chapter 8.1).

On the whole MNIST (--data mnist), 20 epochs give above 0.994 in about a quarter of an hour on two cores.
"""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import plots


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, data=True, seconds=80)
    train, test = digits(args, flatten=False, train=300 if args.short else None, test=100 if args.short else None)
    net = xpdl.DeepConvNet(seed=args.seed)
    how: dict[str, Any] = {"optimizer": xpdl.Adam(lr=0.001), "seed": args.seed, "verbose": not args.short}
    trainer = xpdl.Trainer(
        net, *train, *test, epochs=1 if args.short else 20, evaluate_sample_num_per_epoch=1000, **how
    )
    history = trainer.train()
    accuracy = net.accuracy(*test)
    print(f"accuracy on all {test[1].shape[0]:,} test images: {accuracy:.4f}")
    net.save_params(args.out / "deep_conv_net.safetensors")
    save(plots.learning_curves(history, title="DeepConvNet"), args, "deep_conv_net")
    return accuracy


if __name__ == "__main__":
    main()
