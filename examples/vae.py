"""A variational autoencoder (arXiv:1312.6114): digits drawn from two random numbers, and the plane that they lie in."""

from typing import Any

import numpy as np
from shared import digits, options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array, array_namespace

SIDE = 7  # pictures a row in the figure


class Sample(xpdl.Layer):
    """A random point ``m + exp(v / 2) e`` of the Gaussian with mean m and log variance v, each (N, D); m in evaluation."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def output_shape(self, *input_shapes: Any) -> tuple[int, ...]:
        return (input_shapes[0][0] // 2,)

    def forward(self, x: Array) -> Array:
        xp, size = array_namespace(x, owner=self.name), x.shape[1] // 2
        mean, half = x[:, :size], x[:, size:] / 2
        noise = self.rng.standard_normal(mean.shape) if self.training else np.zeros(mean.shape)
        self.saved = xp.asarray(noise, dtype=x.dtype) * xp.exp(half)
        return mean + self.saved

    def backward(self, dout: Array) -> Array:
        return array_namespace(dout).concat([dout, dout * self.saved / 2], axis=1)


def build(seed: int) -> tuple[xpdl.Graph, xpdl.Sequential]:
    """The net, and the half of it that makes pictures of points."""
    decoder = xpdl.Sequential(xpdl.Affine(units=256), xpdl.Relu(), xpdl.Affine(units=784))
    picture = xpdl.Input((784,), "picture")
    code = xpdl.Affine(units=4)(xpdl.Relu()(xpdl.Affine(units=256)(picture)))
    outputs = {"picture": decoder(Sample(seed)(code), name="decoder"), "code": code}
    losses = {"picture": xpdl.SigmoidWithLoss, "code": xpdl.GaussianKL}
    return xpdl.Graph(picture, outputs, loss=losses, seed=seed), decoder


def main(argv: list[str] | None = None) -> tuple[float, float]:
    args = options(__doc__, argv, seconds=20, data=True)
    (x, _), (x_test, _) = digits(args, train=1000 if args.short else None)
    net, decoder = build(args.seed)

    def targets(pictures: Array) -> dict[str, Array]:
        return {
            "picture": pictures,
            "code": xpdl.asarray(np.zeros((len(pictures), 4))),
        }  # the standard normal distribution

    before = float(net.loss(x_test, targets(x_test)))
    how: dict[str, Any] = {"optimizer": xpdl.Adam(lr=0.002), "mini_batch_size": 50, "verbose": not args.short}
    xpdl.Trainer(net, x, targets(x), epochs=4 if args.short else 40, seed=args.seed, **how).train()
    after = float(net.loss(x_test, targets(x_test)))
    print(f"reconstruction and divergence of a picture that it has not seen: {before:.1f} before, {after:.1f} after")
    # points at equal shares of the normal distribution, on both axes
    places = np.quantile(np.random.default_rng(0).standard_normal(100_000), (np.arange(SIDE) + 0.5) / SIDE)
    points = np.stack(np.meshgrid(places, places[::-1]), axis=-1).reshape(-1, 2)
    pictures = xpdl.asnumpy(xpdl.sigmoid(decoder.predict(xpdl.asarray(points))))
    save(plots.images(pictures, columns=SIDE, title="digits of the plane"), args, "vae")
    return before, after


if __name__ == "__main__":
    main()
