"""Train a character GPT here and in PyTorch, with the same initial weights, batches and AdamW: losses and times.

``python scripts/compare_gpt.py --steps 400 --seed 0`` trains on nine tenths of the packaged text and measures the rest.
``--generate`` times one token after the other instead, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import xpdl
from xpdl.integrations.gpt2 import to_gpt2

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.gpt_in_torch import TorchGPT, peer

CONTEXT, BATCH = 128, 16
RULE = {"lr": 1e-3, "weight_decay": 0.1}
EPS = 1e-8


def net(vocab: int, seed: int) -> tuple[xpdl.GPT, TorchGPT]:
    """Two nets with the same weights."""
    here = xpdl.GPT(vocab, context=CONTEXT, width=128, heads=4, depth=4, seed=seed)
    there = peer(here)
    arrays = to_gpt2({name: np.array(value) for name, value in here.params.items()}, here.tied)
    there.load_state_dict({name: torch.tensor(np.ascontiguousarray(value)) for name, value in arrays.items()})
    return here, there


def batches(ids: Any, steps: int, seed: int) -> Any:
    """Windows of the text and the tokens that follow, (16, 128) each, from random places."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.integers(0, len(ids) - CONTEXT, (BATCH, 1)) + np.arange(CONTEXT + 1)
        yield ids[rows[:, :-1]], ids[rows[:, 1:]]


def train_here(model: xpdl.GPT, each: Any) -> None:
    rule = xpdl.AdamW(**RULE, eps=EPS)
    for x, t in each:
        rule.update(model.params, model.gradient(x, t))


def train_there(model: TorchGPT, each: Any) -> None:
    rule = torch.optim.AdamW(model.parameters(), **RULE, eps=EPS)
    for x, t in each:
        rule.zero_grad()
        scores, _ = model(torch.from_numpy(x))
        F.cross_entropy(scores.flatten(0, 1), torch.from_numpy(t).flatten()).backward()
        rule.step()


def measured(loss: Callable[[Any, Any], float], ids: Any) -> float:
    """The mean loss over whole windows of a text."""
    rows = np.arange(0, len(ids) - CONTEXT, CONTEXT)[:, None] + np.arange(CONTEXT + 1)
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return sum(loss(ids[part[:, :-1]], ids[part[:, 1:]]) * len(part) for part in parts) / len(rows)


def loss_there(model: TorchGPT, x: Any, t: Any) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(torch.from_numpy(x))[0].flatten(0, 1), torch.from_numpy(t).flatten()))


def compare_training(ids: Any, vocab: int, steps: int, seed: int) -> None:
    train, held_out = np.split(ids, [len(ids) * 9 // 10])
    here, there = net(vocab, seed)
    print(f"{sum(value.size for value in here.params.values()):,} parameters, {steps} steps, seed {seed}", flush=True)
    found = {}
    losses = {"xpdl": lambda x, t: float(here.loss(x, t)), "PyTorch": lambda x, t: loss_there(there, x, t)}
    trainings = {"xpdl": lambda each: train_here(here, each), "PyTorch": lambda each: train_there(there, each)}
    for name, training in trainings.items():
        start = time.perf_counter()
        training(batches(train, steps, seed))
        seconds, found[name] = time.perf_counter() - start, measured(losses[name], held_out)
        print(f"{name:<8} validation loss {found[name]:.4f}, training {seconds:.0f} s", flush=True)
    print(f"difference {found['xpdl'] / found['PyTorch'] - 1:+.2%}")


@torch.no_grad()
def generate_there(model: TorchGPT, ids: Any, count: int) -> Any:
    past, last = None, ids
    for _ in range(count):
        scores, past = model(last, past)
        last = torch.multinomial(F.softmax(scores[:, -1], dim=-1), 1)
        ids = torch.cat([ids, last], dim=1)
    return ids


def compare_generation(vocab: int, seed: int, rounds: int = 15) -> None:
    here, there = net(vocab, seed)
    prompt, count = np.arange(4)[None], CONTEXT - 4
    times: dict[str, list[float]] = {"xpdl": [], "PyTorch": []}
    ways: dict[str, Callable[[], Any]] = {
        "xpdl": lambda: here.generate(prompt, count, seed=seed),
        "PyTorch": lambda: generate_there(there, torch.from_numpy(prompt), count),
    }
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - start) / count)
    ratio = statistics.median(a / b for a, b in zip(times["xpdl"], times["PyTorch"], strict=True))
    for name, each in times.items():
        print(f"{name:<8} {statistics.median(each) * 1e6:.0f} us a token")
    print(f"ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generate", action="store_true", help="time generation, not training")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of both (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text = xpdl.load_alice()
    vocabulary = xpdl.Vocabulary.characters(text)
    with xpdl.use("numpy", threads=args.threads):
        if args.generate:
            compare_generation(len(vocabulary), args.seed)
        else:
            compare_training(np.asarray(vocabulary.encode(text)), len(vocabulary), args.steps, args.seed)


if __name__ == "__main__":
    main()
