"""Dates in many forms, and in one: what a Seq2seq with attention looks at for each character (the second volume's ch. 8)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from shared import options, save

import xpdl
from xpdl.backends.namespaces import Array

SHOWN = 4


def draw(weights: list[Array], questions: list[str], answers: list[str]) -> Figure:
    """For each answer, from the top, the weights of the characters of its question."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.2), layout="constrained")
    for one, map_, question, answer in zip(axes.flat, weights, questions, answers, strict=True):
        one.imshow(map_, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        one.set_xticks(range(len(question)), question, fontsize=8)
        one.set_yticks(range(len(answer)), answer, fontsize=8)
        one.tick_params(length=0)
    return figure


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, argv, seconds=427)
    (x, t), (x_test, t_test), vocabulary = xpdl.data.dates(300 if args.short else 50_000, seed=args.seed)
    # as in the book: reversed
    x, questions = (xpdl.asarray(xpdl.asnumpy(rows)[:, ::-1]) for rows in (x, x_test))
    wordvec_size, hidden_size = (16, 32) if args.short else (16, 256)
    net = xpdl.AttentionSeq2seq(len(vocabulary), wordvec_size, hidden_size, seed=args.seed)
    trainer = xpdl.Trainer(
        net,
        x,
        t,
        questions,
        t_test,
        epochs=1 if args.short else 10,
        mini_batch_size=128,
        optimizer=xpdl.Adam(lr=0.001, clip_norm=5.0),
        callbacks=[xpdl.CosineLR()],
        evaluate_sample_num_per_epoch=1000,
        seed=args.seed,
        verbose=not args.short,
    )
    trainer.train()
    accuracy = net.accuracy(questions, t_test)
    print(f"{accuracy:.4f} of {len(t_test)} dates without a fault")
    answers = net.generate(questions[:SHOWN, ...], vocabulary.begin_id, t.shape[1] - 1)
    # back to the order in which people read
    weights = xpdl.asnumpy(net.attention_weights)[:, :, ::-1]
    texts = [[vocabulary.decode(row) for row in rows] for rows in (x_test[:SHOWN, ...], answers)]
    for question, answer in zip(*texts, strict=True):
        print(f"{question} {answer}")
    save(draw(list(weights), *texts), args, "dates_with_attention")
    return accuracy


if __name__ == "__main__":
    main()
