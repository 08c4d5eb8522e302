"""A text by an LSTM, character by character, before and after training on a book (the second volume's ch. 6 and 7.1)."""

import textwrap

from shared import options

import xpdl

ROWS, STEPS = 32, 50
START = "Alice "


def main(argv: list[str] | None = None) -> tuple[float, float]:
    args = options(__doc__, argv, seconds=60)
    text = xpdl.load_alice()
    if args.short:
        text = text[:20_000]
    vocabulary = xpdl.Vocabulary.characters(text)
    ids = vocabulary.encode(text)
    end = len(ids) * 9 // 10
    net = xpdl.RnnLm(len(vocabulary), 128, 128, dropout_ratio=0.2, seed=args.seed)
    start, perplexities = vocabulary.encode(START), []

    def show(when: str) -> None:
        perplexities.append(net.perplexity(ids[end:], batch_size=ROWS, time_size=STEPS))
        print(f"{when}: perplexity {perplexities[-1]:.2f} on the end of the book")
        written = vocabulary.decode(net.generate(start, 300, temperature=0.7, seed=args.seed))
        print(textwrap.fill(written, 100), end="\n\n")
        net.reset_state()

    show("before training")
    windows = xpdl.data.ContiguousWindows(ids[:end], ROWS, STEPS)
    trainer = xpdl.Trainer(
        net,
        windows,
        epochs=2 if args.short else 15,
        optimizer=xpdl.Adam(lr=0.005, clip_norm=1.0),
        callbacks=[xpdl.CosineLR()],
        seed=args.seed,
        verbose=not args.short,
    )
    trainer.train()
    show("after training")
    return perplexities[0], perplexities[1]


if __name__ == "__main__":
    main()
