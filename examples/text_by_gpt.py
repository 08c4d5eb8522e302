"""A small GPT reads a book, character by character, and writes on: before and after training."""

from typing import Any

import numpy as np
from shared import options, save

import xpdl
from xpdl import plots
from xpdl.data import RandomWindows

CONTEXT = 64
PROMPT = "Alice "


def windows(ids: Any, stop: int) -> tuple[Any, Any]:
    """All windows of a text one after the other, and the characters that follow each of theirs, at most `stop` windows."""
    rows = np.arange(0, len(ids) - CONTEXT, CONTEXT)[:stop, None] + np.arange(CONTEXT + 1)
    return xpdl.asarray(ids[rows[:, :-1]], "int32"), xpdl.asarray(ids[rows[:, 1:]], "int32")


def main(argv: list[str] | None = None) -> tuple[float, float]:
    args = options(__doc__, argv, seconds=70)
    text = xpdl.load_alice()
    vocabulary = xpdl.Vocabulary.characters(text)
    ids = xpdl.asnumpy(vocabulary.encode(text))
    train, rest = np.split(ids, [len(ids) * 9 // 10])
    held_out = windows(rest, 20 if args.short else 200)

    width, heads, depth = (16, 2, 1) if args.short else (96, 4, 3)
    net = xpdl.GPT(len(vocabulary), CONTEXT, width, heads, depth, dropout=0.0 if args.short else 0.1, seed=args.seed)
    net.vocabulary = vocabulary

    def written() -> str:
        prompt = vocabulary.encode(PROMPT)
        ids = net.generate(prompt, 40 if args.short else 250, temperature=0.8, top_k=20, seed=args.seed)
        return vocabulary.decode(ids)

    print(f"before:\n{written()}\n")
    before = float(net.loss(*held_out))
    batches = RandomWindows(train, 16, CONTEXT, batches=30 if args.short else 100, seed=args.seed)
    how: dict[str, Any] = {"optimizer": xpdl.AdamW(lr=0.003, weight_decay=0.1, clip_norm=1.0), "seed": args.seed}
    how |= {"epochs": 1 if args.short else 12, "verbose": not args.short}
    history = xpdl.Trainer(net, batches, validation_data=held_out, **how).train()
    after = float(net.loss(*held_out))
    print(f"after:\n{written()}\n")
    print(f"loss of a character that it has not seen: {before:.2f} before, {after:.2f} after")
    net.save(args.out / "gpt.safetensors")
    print(f"more of it: xpdl generate {args.out / 'gpt.safetensors'} --prompt '{PROMPT}' --temperature 0.8")

    losses = {"training": history.epoch_loss_list, "text that it has not seen": history.val_loss_list}
    labels = {"title": "A GPT of characters", "xlabel": "epoch of 100 batches", "ylabel": "loss of a character"}
    save(plots.curves(losses, **labels), args, "text_by_gpt")
    return before, after


if __name__ == "__main__":
    main()
