"""Kills of random ranks at random moments: ``python -m tests.distributed.kill_ranks [KILLS] [SEED]``.

A training of three ranks is killed again and again, every second time while a checkpoint is written, and started again. Each
start must go on from where the last checkpoint was, and parameters and history must end bitwise identical to those of a
training that nobody killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.distributed.launch import ROOT, command, environment, on_ranks

RANKS = 3
#: of 4 steps; a round makes fewer before it is killed
EPOCHS_OF_A_KILL = 5
_SECONDS = 0.4
_CALLS_IN_WRITES = 24


def training(folder: Path, how: str, kills: int) -> list[str]:
    return ["-m", "tests.distributed.run_that_fails", str(folder), how, str(EPOCHS_OF_A_KILL * kills + 2)]


def digest(folder: Path, kills: int) -> str:
    """Let a training end, and return the digest of its parameters and history."""
    done = on_ranks(RANKS, *training(folder, "no", kills), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def round_of(folder: Path, kills: int, rng: random.Random, *, writing: bool) -> str:
    """Start the training, kill a rank of it, and return its output."""
    how = f"write {rng.randrange(_CALLS_IN_WRITES)} {rng.randrange(RANKS)}" if writing else "slow"
    delay, victim = rng.uniform(0.0, _SECONDS), rng.randrange(RANKS)
    line = command(RANKS, *training(folder, how, kills))
    said, is_killed = "", False
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment()
        ) as process,
    ):
        assert process.stdout is not None
        for text in process.stdout:
            said += text
            is_killed |= writing and "killed in a write" in text
            if not writing and (found := re.findall(rf"with their processes: .*\b{victim}: (\d+)", text)):
                time.sleep(delay)
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(int(found[0]), signal.SIGKILL)
                    is_killed = True
        process.wait()
        errors.seek(0)
        why = errors.read()
    assert is_killed and process.returncode != 0, f"the ranks ended before one was killed:\n{said}\n{why}"
    return said


def steps_before(said: str) -> int | None:
    """Return the steps that a run went on after, None where it began anew."""
    found = re.search(r"^going on after (step|epoch) (\d+)", said, re.M)
    return None if found is None else int(found[2]) * (1 if found[1] == "step" else 4)


def killed(folder: Path, kills: int, seed: int = 0) -> tuple[str, list[int]]:
    """Kill so many times; return the digest of the training that may end, and the steps that each start went on after."""
    rng, went_on = random.Random(seed), [0]
    for number in range(kills):
        had_one = any(folder.glob("run.checkpoint*"))
        said = round_of(folder, kills, rng, writing=number % 2 == 1)
        before = steps_before(said)
        if before is None and had_one:  # killed before it has read the checkpoint
            assert not re.search("^epoch", said, re.M), f"began anew:\n{said}"
            continue
        assert (before or 0) >= went_on[-1], f"went on after step {before}, after {went_on[-1]} before:\n{said}"
        went_on.append(before or 0)
    return digest(folder, kills), went_on[1:]


def main(kills: int = 50, seed: int = 0) -> int:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        expected = digest(Path(one), kills)
        found, went_on = killed(Path(other), kills, seed)
    print(f"{kills} kills, seed {seed}; starts went on after steps {went_on}")
    print("bitwise identical to the undisturbed run" if found == expected else f"{found} is not {expected}")
    return int(found != expected)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
