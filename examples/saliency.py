"""Gradients with respect to pictures: which pixels a decision hangs on, and pictures that a net takes for another digit."""

import numpy as np
from shared import digits, options, save, trained

import xpdl
from xpdl import plots

STEP = 0.1  # of each pixel, of values from 0 to 1


def main(argv: list[str] | None = None) -> tuple[float, float]:
    args = options(__doc__, argv, seconds=12, data=True, weights=True)
    data = digits(args, flatten=False, train=1000 if args.short else None, test=500 if args.short else None)
    net = trained(args, xpdl.SimpleConvNet(seed=args.seed), data, epochs=2 if args.short else 8)
    x, t = data[1]
    pictures = xpdl.asnumpy(x)
    # along the sign of the gradient of the loss, arXiv:1412.6572
    shifted = np.clip(pictures + STEP * np.sign(xpdl.asnumpy(net.input_gradient(x, t))), 0, 1)
    adversarial = xpdl.asarray(shifted)
    before, after = net.accuracy(x, t), net.accuracy(adversarial, t)
    print(f"accuracy {before:.3f}, and {after:.3f} when each pixel moves by {STEP}")
    # the size of the gradient of the score of the digit, arXiv:1312.6034
    shown, labels = x[:8, ...], t[:8]
    saliency = np.abs(xpdl.asnumpy(net.input_gradient(shown, output=labels)))
    saliency /= saliency.max(axis=(1, 2, 3), keepdims=True)
    taken_for = xpdl.asnumpy(net.predict(adversarial[:8, ...])).argmax(axis=1)
    titles = [f"{label}" for label in xpdl.asnumpy(labels)] + ["saliency"] * 8 + [f"taken for {k}" for k in taken_for]
    figure = plots.images(np.concatenate([pictures[:8], saliency, shifted[:8]]), titles=titles, columns=8)
    save(figure, args, "saliency")
    return before, after


if __name__ == "__main__":
    main()
