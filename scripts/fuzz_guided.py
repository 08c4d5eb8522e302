"""The targets of scripts/fuzz.py, led by the lines that a case reaches: needs ``pip install atheris``.

    python scripts/fuzz_guided.py --seconds 60 [--target pickle] [--record tests/fuzz/README.md]

libFuzzer makes the bytes. Of binary files they are the file, grown from the same seeds; elsewhere they are what choices are
made by, in place of random numbers. What counts as a finding, and where it is kept, is as there.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
with atheris.instrument_imports(include=["xpdl"]):
    from scripts import fuzz


class Choices(random.Random):
    """Random numbers that are made of given bytes, and zeros after these."""

    def take(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def getrandbits(self, k: int) -> int:
        size = -(-k // 8)
        taken = self.data[self.place : self.place + size]
        self.place += size
        return int.from_bytes(taken, "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / (1 << 16)


class Guided(fuzz.Targets):
    """The same, with the bytes themselves as the file."""

    rng: Choices
    seeds: Sequence[bytes] = ()
    words: Sequence[bytes] = ()

    def altered(self, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
        self.seeds, self.words = seeds, words
        return self.rng.data[self.rng.place :]


def run(name: str, seed: int, seconds: float, findings: Path, record: Path | None) -> None:
    """Cases of one target, until the time is over; ends the process."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    choices = Choices()
    choices.take(b"")
    targets = Guided(choices, folder)
    cases = getattr(targets, name)()
    fuzz.prepare()
    next(cases)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(targets.seeds):
        (corpus / str(number)).write_bytes(content)
    dictionary = ["".join(rf"\x{byte:02x}" for byte in word) for word in targets.words]
    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in dictionary or ["x"]))
    os.chdir(folder)
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds

    def one(data: bytes) -> None:
        choices.take(data)
        content, read = next(cases)
        fuzz.count(counts, name, content, fuzz.run_case(read, watched=name != "arguments"), findings)
        if time.monotonic() > end:
            fuzz.report(counts, f"{name}, guided", seed, seconds, record)
            os._exit(1 if counts["findings"] else 0)

    options = [f"-seed={seed + 1}", "-timeout=0", "-rss_limit_mb=0", "-max_len=4096", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"-dict={words}", str(corpus)], one)
    # of libFuzzer's own it was taken over
    signal.signal(signal.SIGALRM, fuzz._alarm)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=fuzz.NAMES, nargs="+", default=fuzz.NAMES)
    parser.add_argument("--record", type=Path, help="append a row for each target to this table")
    args: Any = parser.parse_args()
    if len(args.target) > 1:
        # libFuzzer's loop does not come back
        own = [sys.executable, __file__, "--seconds", str(args.seconds), "--seed", str(args.seed)]
        own += [] if args.record is None else ["--record", str(args.record)]
        return max(subprocess.run([*own, "--target", name], check=False).returncode for name in args.target)
    run(args.target[0], args.seed, args.seconds, Path("findings").absolute(), args.record and args.record.absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
