"""``xpdl generate``: go on with a text, or several."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpdl import models
from xpdl.cli.options import add_backend, use
from xpdl.data.text.padding import pad_sequences
from xpdl.data.text.vocabulary import Vocabulary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="file of a trained GPT or RnnLm with its vocabulary")
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="the text to go on with (default: a new line); may be repeated",
    )
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="tokens to add (default: 200)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 likely tokens become likelier; 0 takes the likeliest (default: 1)",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="draw among the likeliest tokens of the probability P together"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the draws (default: another text each time)")
    parser.add_argument("--stop", action="append", default=[], metavar="TOKEN", help="end after it; may be repeated")
    add_backend(parser)


def run(args: argparse.Namespace) -> None:
    """Print the prompt and what follows; of several prompts, each begins a line, with an empty one between them."""
    use(args)
    network, vocabulary = _load(args.model)
    prompts = [_encoded(vocabulary, text, "--prompt") for text in args.prompt or ["\n"]]
    if not all(prompts):
        raise ValueError("--prompt must have at least one token, got an empty text")
    stop = []
    for token in args.stop:
        ids = _encoded(vocabulary, token, "--stop")
        if len(ids) != 1:
            raise ValueError(f"--stop must be one token, got {token!r}, which has {len(ids)}; repeat it for several")
        stop += ids
    options = {
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "seed": args.seed,
        "stop": stop,
    }
    unknown = vocabulary.special.get("unknown")
    if isinstance(network, models.RnnLm) and unknown is not None:
        options["skip_ids"] = [vocabulary.ids[unknown]]
    if len(prompts) == 1:
        texts = [network.generate(prompts[0], args.tokens, **options)]
    else:
        rows, _ = pad_sequences(prompts, padding=prompts[0][0])
        texts = network.generate(rows, args.tokens, lengths=list(map(len, prompts)), **options)
    print("\n\n".join(map(vocabulary.decode, texts)))


def _load(path: Path) -> tuple[models.GPT | models.RnnLm, Vocabulary]:
    """Return the net of a file and its vocabulary."""
    network = models.load_model(path)
    if isinstance(network, models.Seq2seq):
        raise ValueError(
            f"{path}: is a {type(network).__name__}, which answers questions of the form that it was trained on; call its "
            "generate(x, start_id, sample_size) in Python"
        )
    if not isinstance(network, (models.GPT, models.RnnLm)):
        raise ValueError(
            f"{path}: is a {type(network).__name__}, which is no GPT and no RnnLm; name the file that its save wrote"
        )
    if network.vocabulary is None:
        raise ValueError(f"{path}: has no vocabulary; assign it to net.vocabulary before net.save")
    return network, network.vocabulary


def _encoded(vocabulary: Vocabulary, text: str, option: str) -> list[int]:
    try:
        ids: list[int] = vocabulary.encode(text).tolist()
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    return ids
