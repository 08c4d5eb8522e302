"""A denoising autoencoder: a net that gives clean digits back for noisy ones, through 32 values in its middle."""

from typing import Any

import numpy as np
from shared import digits, options, save

import xpdl
from xpdl import plots

NOISE = 0.3  # standard deviation that is added to each pixel


def build(seed: int) -> xpdl.Sequential:
    return xpdl.Sequential(
        *(xpdl.Affine(units=256), xpdl.Relu(), xpdl.Affine(units=32), xpdl.Relu()),
        *(xpdl.Affine(units=256), xpdl.Relu(), xpdl.Affine(units=784)),
        loss=xpdl.SigmoidWithLoss,  # the pixels are its targets, shares from 0 to 1
        seed=seed,
    )


def main(argv: list[str] | None = None) -> tuple[float, float]:
    args = options(__doc__, argv, seconds=9, data=True)
    (x, _), (x_test, _) = digits(args, train=1000 if args.short else None, test=200 if args.short else None)
    rng = np.random.default_rng(args.seed)

    def noisy(clean: np.ndarray) -> np.ndarray:
        return np.clip(clean + NOISE * rng.standard_normal(clean.shape), 0, 1).astype(clean.dtype)

    clean, clean_test = xpdl.asnumpy(x), xpdl.asnumpy(x_test)
    seen = noisy(clean_test)
    net = build(args.seed)
    how: dict[str, Any] = {"optimizer": xpdl.Adam(lr=0.002), "mini_batch_size": 50, "verbose": not args.short}
    trainer = xpdl.Trainer(net, noisy(clean), clean, epochs=8 if args.short else 20, seed=args.seed, **how)
    trainer.train()
    given_back = xpdl.asnumpy(xpdl.sigmoid(net.predict(xpdl.asarray(seen))))
    before, after = (float(np.mean((one - clean_test) ** 2)) for one in (seen, given_back))
    print(f"mean squared error of a pixel: {before:.4f} with noise, {after:.4f} after the net")
    titles = ["clean"] * 8 + ["noisy"] * 8 + ["given back"] * 8
    save(plots.images(np.concatenate([clean_test[:8], seen[:8], given_back[:8]]), titles=titles), args, "autoencoder")
    return before, after


if __name__ == "__main__":
    main()
