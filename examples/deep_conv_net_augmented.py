"""DeepConvNet with changed digits and a learning rate that rises and falls: meant for the whole MNIST (chapter 8.1).

python examples/deep_conv_net_augmented.py --data mnist --seed 0
"""

import array_api_compat
from shared import digits, options, save

import xpdl
from xpdl import augment, plots
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream

TURN, SCALE, BEND, SHIFT = augment.Rotate(12), augment.Scale(0.85, 1.15), augment.Elastic(), augment.Shift(1)


def changed(x: Array, stream: Stream) -> Array:
    """A quarter of a batch turned, one scaled, one bent, one as it was, and all of it shifted by whole pixels.

    Turning, scaling and bending blend pixels. The digits of the test are not blurred by it, so some here must not be either:
    a net that has seen nothing but blurred digits takes thin ones for others.
    """
    xp, quarter = array_api_compat.array_namespace(x), x.shape[0] // 4
    parts = [x[k * quarter : (k + 1) * quarter, ...] for k in range(3)]
    parts = [change(part, stream) for change, part in zip((TURN, SCALE, BEND), parts, strict=True)]
    return SHIFT(xp.concat([*parts, x[3 * quarter :, ...]]), stream)


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, data=True, seconds=120)
    train, test = digits(args, flatten=False, train=300 if args.short else None, test=100 if args.short else None)
    net = xpdl.DeepConvNet(seed=args.seed)
    epochs = 1 if args.short else 20
    trainer = xpdl.Trainer(
        net,
        *train,
        *test,
        epochs=epochs,
        optimizer="Adam",
        optimizer_param={"lr": 0.001},
        augment=changed,
        callbacks=[xpdl.OneCycleLR(rise=0.2, start=0.1, final=0.0)],
        evaluate_sample_num_per_epoch=1000,
        checkpoint=None if args.short else args.out / "deep_conv_net_augmented.checkpoint",
        seed=args.seed,
        verbose=not args.short,
    )
    history = trainer.train()
    accuracy = net.accuracy(*test)
    print(f"accuracy on all {test[1].shape[0]:,} test images: {accuracy:.4f}")
    net.save_params(args.out / "deep_conv_net_augmented.safetensors")
    save(plots.learning_curves(history, title="DeepConvNet, augmented"), args, "deep_conv_net_augmented")
    return accuracy


if __name__ == "__main__":
    main()
