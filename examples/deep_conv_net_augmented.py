"""DeepConvNet with changed digits and a learning rate that rises and falls: meant for the whole MNIST (chapter 8.1).

python examples/deep_conv_net_augmented.py --data mnist --seed 0
"""

from shared import digits, options, save

import xpdl
from xpdl import augment, plots


def main(argv=None):
    args = options(__doc__, argv, data=True)
    train, test = digits(args, flatten=False, train=300 if args.short else None, test=100 if args.short else None)
    net = xpdl.DeepConvNet(seed=args.seed)
    epochs = 1 if args.short else 40
    changes = [augment.Rotate(10), augment.Scale(0.9, 1.1), augment.Shift(2, whole=False), augment.Elastic()]
    trainer = xpdl.Trainer(
        net,
        *train,
        *test,
        epochs=epochs,
        optimizer="Adam",
        optimizer_param={"lr": 0.003},
        augment=changes,
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
