"""A generative adversarial net (arXiv:1406.2661): one net draws digits of noise, the other tells them from real ones."""

import numpy as np
from shared import digits, options, save

import xpdl
from xpdl import plots
from xpdl.backends.namespaces import Array

NOISE, BATCH = 32, 100


def build(seed: int) -> tuple[xpdl.Sequential, xpdl.Sequential]:
    generator = xpdl.Sequential(
        *(xpdl.Affine(units=256), xpdl.LeakyRelu(0.2), xpdl.Affine(units=256), xpdl.LeakyRelu(0.2)),
        *(xpdl.Affine(units=784), xpdl.Tanh()),
        seed=seed,
    )
    critic = xpdl.Sequential(
        *(xpdl.Affine(units=256), xpdl.LeakyRelu(0.2), xpdl.Affine(units=128), xpdl.LeakyRelu(0.2)),
        xpdl.Affine(units=1),
        loss=xpdl.SigmoidWithLoss,
        seed=seed + 1,
    )
    generator.build((NOISE,))
    critic.build((784,))
    return generator, critic


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, seconds=65, data=True)
    (x, labels), _ = digits(args, train=1000 if args.short else None)
    pictures = 2 * x - 1  # in the range of tanh
    generator, critic = build(args.seed)
    optimizers = [xpdl.Adam(lr=0.0005, beta1=0.5) for _ in range(2)]
    rng = np.random.default_rng(args.seed)
    averages, step = generator.state_dict(), 0  # of the weights over the last steps, which draw with less noise

    def noise(count: int) -> Array:
        return xpdl.asarray(rng.standard_normal((count, NOISE)))

    real, drawn = xpdl.asarray(np.full((BATCH, 1), 0.9)), xpdl.asarray(np.zeros((BATCH, 1)))  # 0.9: label smoothing
    batches = xpdl.Batches(pictures, labels, BATCH, seed=args.seed, drop_last=True)
    for epoch in range(10 if args.short else 100):
        for rows, _ in batches:
            fakes = generator.forward(noise(BATCH))
            for rows_of, targets in ((rows, real), (fakes, drawn)):
                optimizers[0].update(critic.params, critic.gradient(rows_of, targets))
            # the generator goes where the critic would take its pictures for real ones
            generator.backward(critic.input_gradient(fakes, real))
            optimizers[1].update(generator.params, generator.grads)
            step += 1
            kept = min(0.998, step / (step + 10))
            for name, weights in generator.params.items():
                averages[name] = kept * averages[name] + (1 - kept) * weights
        if not args.short and epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss of the generator {float(critic.loss(fakes, real)):.3f}", flush=True)
    generator.load_state_dict(averages)
    fakes = generator.predict(noise(200))
    share = float(np.mean(xpdl.asnumpy(critic.predict(fakes)) > 0))
    means = [xpdl.asnumpy(one).mean(axis=0) for one in (pictures, fakes)]
    alike = float(np.corrcoef(*means)[0, 1])
    print(
        f"the critic takes {share:.2f} of the drawn pictures for real ones; correlation of the mean pictures {alike:.2f}"
    )
    save(plots.images(xpdl.asnumpy(fakes)[:24], columns=8), args, "gan")
    return alike


if __name__ == "__main__":
    main()
