"""Digits moved, turned and bent, and what a net gains by seeing them (chapter 8.1.2)."""

from typing import Any

from shared import digits, options, save

import xpdl
from xpdl import augment, plots
from xpdl.backends.random import Stream


def main(argv: list[str] | None = None) -> dict[str, xpdl.History]:
    args = options(__doc__, argv)
    train, test = digits(args, flatten=False, train=1000, test=300 if args.short else None)
    transforms = {
        "Shift": augment.Shift(2),
        "Crop": augment.Crop(24),
        "Rotate": augment.Rotate(20),
        "Scale": augment.Scale(0.8, 1.2),
        "Elastic": augment.Elastic(),
        "Brightness": augment.Brightness(),
        "Noise": augment.Noise(),
        "Cutout": augment.Cutout(14),
        "Flip": augment.Flip(1.0),
    }
    x = train[0][:1, ...]
    for name, transform in transforms.items():
        print(f"{name:10} {tuple(transform(x, Stream(args.seed)).shape)}")
    shown = {k: t for k, t in transforms.items() if k != "Crop"}
    seen = [xpdl.asnumpy(x), *(xpdl.asnumpy(change(x, Stream(args.seed))) for change in shown.values())]
    rows = [image[0] for image in seen]
    save(plots.images(xpdl.asarray(rows), titles=["as it is", *shown], columns=9), args, "augmentation_digits")

    histories = {}
    for name, changes in (
        ("1,000 digits", None),
        ("augmented", [augment.Shift(2), augment.Rotate(10), augment.Scale()]),
    ):
        net = xpdl.SimpleConvNet(seed=args.seed)
        how: dict[str, Any] = {"optimizer": xpdl.Adam(lr=0.001), "seed": args.seed, "verbose": False}
        trainer = xpdl.Trainer(net, *train, *test, epochs=1 if args.short else 40, augment=changes, **how)
        histories[name] = trainer.train()
        print(f"{name:13} test accuracy {histories[name].test_acc_list[-1]:.4f}")
    save(plots.learning_curves(histories, title="What augmentation buys"), args, "augmentation")
    return histories


if __name__ == "__main__":
    main()
