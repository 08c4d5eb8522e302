"""Sums as sequences of characters: a Seq2seq as it is, with reversed questions, and peeky (the second volume's ch. 7)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from shared import options, save

import xpdl
from xpdl.backends.namespaces import Array

# wordvec_size and hidden_size of the book
SIZES = 16, 128
SHOWN = 5


def train(
    name: str, x: Array, t: Array, x_test: Array, t_test: Array, seed: int, short: bool
) -> tuple[xpdl.Seq2seq, xpdl.History]:
    """A net for sums, trained as in the book but for a learning rate that falls to 0, and its history."""
    net = (xpdl.PeekySeq2seq if "peeky" in name else xpdl.Seq2seq)(13, *SIZES, seed=seed)
    trainer = xpdl.Trainer(
        net,
        x,
        t,
        x_test,
        t_test,
        epochs=1 if short else 25,
        mini_batch_size=128,
        optimizer=xpdl.Adam(lr=0.001, clip_norm=5.0),
        callbacks=[xpdl.CosineLR()],
        evaluate_sample_num_per_epoch=1000,
        seed=seed,
        verbose=not short,
    )
    return net, trainer.train()


def draw(curves: dict[str, list[float]]) -> Figure:
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axes.set(xlabel="epoch", ylabel="sums without a fault, of 1,000", ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, argv, seconds=380)
    (x, t), (x_test, t_test), vocabulary = xpdl.data.additions(300 if args.short else 50_000, seed=args.seed)
    found, curves = {}, {}
    for name in ("plain", "reversed", "peeky, reversed"):
        step = -1 if "reversed" in name else 1
        questions = xpdl.asarray(xpdl.asnumpy(x_test)[:, ::step])
        net, history = train(
            name, xpdl.asarray(xpdl.asnumpy(x)[:, ::step]), t, questions, t_test, args.seed, args.short
        )
        found[name], curves[name] = net.accuracy(questions, t_test), history.test_acc_list
        print(f"{name}: {found[name]:.4f} of {len(t_test)} sums without a fault")
    answers = net.generate(questions[:SHOWN, ...], vocabulary.begin_id, t.shape[1] - 1)
    for question, answer in zip(x_test[:SHOWN, ...], answers, strict=True):
        print(f"{vocabulary.decode(question)} = {vocabulary.decode(answer)}")
    save(draw(curves), args, "addition")
    return found


if __name__ == "__main__":
    main()
