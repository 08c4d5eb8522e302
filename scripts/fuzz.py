"""Feed altered files and arguments to everything that reads them, and look for what must not happen.

    python scripts/fuzz.py --seconds 60 --seed 1 [--target pickle] [--record tests/fuzz/README.md]

A case is a valid input altered in a few places, at random from the seed. It may be read, or be refused by a documented
error. Anything else is a finding: another exception, more than two seconds, more than four gigabytes of memory, and what a
file must never bring about: a process, a connection, a file written or removed, code compiled. Findings are kept as files
in the folder ``findings``; make a regression test of each. The exit code says whether there were any.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
import xpdl.cli
from xpdl import storage
from xpdl.data.idx import read_idx
from xpdl.data.images import load_digit
from xpdl.models import load_model, load_pytorch

SECONDS = 2
BYTES = 4 << 30
#: the errors that readers document
DOCUMENTED = (ValueError, OSError, TypeError, xpdl.BackendError)
#: what Python reports of itself, see its documentation of audit events
FORBIDDEN = {
    *(
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "socket.connect",
    ),
    *(
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.chmod",
        "shutil.rmtree",
        "compile",
        "exec",
        "ctypes.dlopen",
    ),
}
_INTERESTING = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_VALUES = (
    0,
    -1,
    1,
    10**9,
    10**30,
    1.5,
    -0.0,
    1e308,
    True,
    None,
    "",
    "x",
    "he",
    [],
    [1],
    [[1]],
    {},
    {"a": 1},
    "9" * 400,
)

_seen: list[str] = []
_watching = False


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event in FORBIDDEN or writes:
        _seen.append(f"{event} {args!r:.100}")


class Hang(BaseException):
    """A case that took too long."""


def _alarm(*_: Any) -> None:
    raise Hang


# --- altering


def altered(data: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    """`data` changed in one to six places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(9)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = rng.randrange(256)
        elif kind == 2:
            out[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del out[place : place + rng.randrange(1, 17)]
        elif kind == 4:
            begin = rng.randrange(len(out) + 1)
            out[place:place] = out[begin : begin + rng.randrange(1, 65)] * rng.choice((1, 1, 2, 50))
        elif kind == 5:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_INTERESTING) % 256**size
            out[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 6 and words:
            out[place:place] = rng.choice(words)
        elif kind == 7 and words:
            word = rng.choice(words)
            out[place : place + len(word)] = word
        elif kind == 8:
            del out[place:]
    return bytes(out)


def other_value(value: Any, rng: random.Random) -> Any:
    """A JSON value, one of whose parts is another."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        changed = {**value, key: other_value(value[key], rng)}
        if rng.random() < 0.1:
            del changed[key]
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], other_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(_VALUES)


# --- what is read, and what it is made from

Case = tuple[bytes, Callable[[], Any]]


class Targets:
    """Each method yields one case after the other, for ever: the bytes, and what reads them."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng, self.file = rng, folder / "case"
        self.arrays = {
            "W1": np.ones((2, 3), np.float32),
            "b1": np.zeros(3),
            "n": np.asarray(7),
            "t": np.arange(5, dtype="u1"),
        }

    def _files(self, seeds: Sequence[bytes], words: Sequence[bytes], read: Callable[[], Any]) -> Iterator[Case]:
        while True:
            data = altered(self.rng.choice(seeds), self.rng, words)
            yield data, lambda data=data: (self._write(data), read())

    def _write(self, data: bytes) -> None:
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with contextlib.suppress(OSError):
            os.write(handle, data)
        os.close(handle)

    def pickle(self) -> Iterator[Case]:
        contents: list[Any] = [self.arrays, {"a": np.float32(1), "b": 2, "c": 2.5}, {"x": np.arange(3, dtype=">f8")}]
        seeds = [pickle.dumps(content, protocol) for content in contents for protocol in range(6)]
        opcodes = [bytes([code]) for code in pickle._Unpickler.dispatch]
        names = [
            b"cos\nsystem\n",
            b"cbuiltins\neval\n",
            b"cnumpy\nndarray\n",
            b"cnumpy.core.multiarray\n_reconstruct\n",
        ]
        names += [b"c_codecs\nencode\n", b"h\x00", b"q\x00", b"\x94", b"(dp0\n", b"\x8c\x02os\x8c\x06system\x93"]
        return self._files(seeds, opcodes + names, lambda: storage.load_arrays(self.file))

    def safetensors(self) -> Iterator[Case]:
        path = self.file.with_name("seed")
        storage.write_tensors(path, self.arrays, {"model": "TwoLayerNet"})
        seeds = [path.read_bytes()]
        storage.write_plain_tensors(path, self.arrays, {"format": "pt"})
        seeds.append(path.read_bytes())
        half = b'{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}     '
        seeds.append(struct.pack("<Q", len(half)) + half + bytes(6))
        words = [
            b'"F32"',
            b'"BF16"',
            b'"F64"',
            b'"I64"',
            b'"U8"',
            b"[0]",
            b"[2,3]",
            b"[]",
            b"{}",
            b"-1",
            b"99999999999",
        ]
        words += [
            b"18446744073709551615",
            b'"__metadata__":{"format":"xpdl"},',
            b"[[[[",
            b'"data_offsets"',
            b'"shape"',
            b"null",
        ]
        return self._files(seeds, words, lambda: storage.load_arrays(self.file))

    def header(self) -> Iterator[Case]:
        """safetensors whose JSON header is altered as JSON, and whose lengths fit."""
        arrays = {"W": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
        header = {
            "__metadata__": {"format": "pt"},
            **arrays,
            "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
        }
        while True:
            changed = json.dumps(other_value(header, self.rng)).encode()
            data = struct.pack("<Q", len(changed)) + changed + bytes(28)
            yield data, lambda data=data: (self._write(data), storage.load_arrays(self.file))

    def metadata(self) -> Iterator[Case]:
        """Files whose checksum is right and whose description of a model is not."""
        descriptions: list[dict[str, Any]] = [
            {
                "model": "TwoLayerNet",
                "config": {"input_size": 2, "hidden_size": 3, "output_size": 2, "weight_init_std": 0.01},
            },
            {
                "model": "MultiLayerNetExtend",
                "config": {
                    "input_size": 2,
                    "hidden_size_list": [3, 3],
                    "output_size": 2,
                    "activation": "relu",
                    "weight_init_std": "relu",
                    "weight_decay_lambda": 0.1,
                    "use_dropout": True,
                    "dropout_ration": 0.5,
                    "use_batchnorm": True,
                },
            },
            {
                "model": "SimpleConvNet",
                "config": {
                    "input_dim": [1, 8, 8],
                    "conv_param": {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1},
                    "hidden_size": 3,
                    "output_size": 2,
                    "weight_init_std": 0.01,
                },
            },
            {"model": "DeepConvNet", "config": {"input_dim": [1, 8, 8], "hidden_size": 2, "output_size": 2}},
        ]
        shapes = {"W1": (2, 3), "b1": (3,), "W2": (3, 2), "b2": (2,)}
        arrays = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
        while True:
            description = other_value(self.rng.choice(descriptions), self.rng)
            described = description if isinstance(description, dict) else {"config": description}
            metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
            if self.rng.random() < 0.2:
                metadata["config"] = altered(
                    metadata.get("config", "").encode(), self.rng, [b"[", b"{", b"1e999"]
                ).decode("utf-8", "replace")
            header = {
                **metadata,
                "format": "xpdl",
                "format_version": self.rng.choice(("1", "1", "1", "2", "-1", "", "x", "9" * 99)),
            }
            header["sha256"] = storage._checksum(arrays, header)

            def read(header: dict[str, str] = header) -> None:
                with self.preparing():
                    storage.write_plain_tensors(self.file, arrays, header)
                load_model(self.file)

            yield json.dumps(header).encode(), read

    def pytorch(self) -> Iterator[Case]:
        """State dicts of PyTorch with other names, shapes and dtypes."""
        model = xpdl.TwoLayerNet(2, 3, 2, seed=0)
        names = [
            "fc1.weight",
            "fc1.bias",
            "fc2.weight",
            "fc2.bias",
            "fc1",
            "",
            ".",
            "W1",
            "bn.num_batches_tracked",
            "\u2028",
        ]
        shapes = [(3, 2), (2, 3), (3,), (2,), (), (0,), (1, 1, 1)]
        dtypes = ["float32", "float64", "float16", "int64", "bool"]
        while True:
            chosen = self.rng.sample(names, self.rng.randrange(len(names)))
            arrays = {n: np.zeros(self.rng.choice(shapes), self.rng.choice(dtypes)) for n in chosen}
            strict = self.rng.random() < 0.5

            def read(arrays: dict[str, Any] = arrays, strict: bool = strict) -> None:
                with self.preparing():
                    storage.write_plain_tensors(self.file, arrays, {})
                load_pytorch(model, self.file, strict=strict)

            yield repr({name: (a.shape, a.dtype) for name, a in arrays.items()}).encode(), read

    def idx(self) -> Iterator[Case]:
        seeds = [
            b"\0\0\x08" + bytes([rank]) + struct.pack(f">{rank}I", *[2] * rank) + bytes(2**rank)
            for rank in (1, 2, 3, 4)
        ]
        return self._files(seeds, [b"\0\0\x08\x03", b"\xff" * 4, b"\0" * 4], lambda: read_idx(self.file))

    def gzip(self) -> Iterator[Case]:
        """Altered inside before it is packed, or outside afterwards."""
        seed = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(24)
        packed = [gzip.compress(seed, mtime=0), gzip.compress(seed + bytes(10**5), mtime=0)]
        outside = self._files(packed, [packed[0], b"\x1f\x8b\x08", b"\xff" * 4], lambda: read_idx(self.file))
        while True:
            if self.rng.random() < 0.5:
                yield next(outside)
            else:
                data = gzip.compress(altered(seed, self.rng, [b"\xff" * 4]), compresslevel=1, mtime=0)
                yield data, lambda data=data: (self._write(data), read_idx(self.file))

    def image(self) -> Iterator[Case]:
        from PIL import Image

        pixels = np.zeros((30, 34), np.uint8)
        pixels[5:20, 10:14] = 200
        seeds = []
        for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"):
            for mode in ("L", "RGB") if kind != "GIF" else ("P",):
                buffer = io.BytesIO()
                Image.fromarray(pixels).convert(mode).save(buffer, kind)
                seeds.append(buffer.getvalue())
        words = [
            b"IHDR",
            b"IDAT",
            b"PLTE",
            b"tRNS",
            b"iCCP",
            b"zTXt",
            b"\xff\xd8",
            b"\xff\xc0",
            b"GIF89a",
            b"RIFF",
            b"P5\n",
            b"%!PS",
        ]
        return self._files(seeds, words, lambda: load_digit(self.file))

    def arguments(self) -> Iterator[Case]:
        words = [
            "train",
            "evaluate",
            "predict",
            "info",
            "bench",
            "--model",
            "--data",
            "--epochs",
            "--batch-size",
            "--lr",
        ]
        words += [
            "--seed",
            "--out",
            "--optimizer",
            "--backend",
            "--resume",
            "--debug",
            "--help",
            "--version",
            "--json",
            "--rounds",
        ]
        words += [
            "SimpleConvNet",
            "mini",
            "mnist",
            "numpy",
            "nonsense",
            "sgd",
            "Adam",
            "0",
            "-1",
            "1",
            "nan",
            "inf",
            "1e400",
            "1.5",
        ]
        words += ["", " ", "-", "--", "x" * 300, "\u2028", "\udcff", "/nowhere/file", str(self.file), "10" * 50]
        while True:
            chosen = [self.rng.choice(words[:5]), *self.rng.choices(words, k=self.rng.randrange(7))]
            yield repr(chosen).encode(), lambda chosen=chosen: self._command(chosen)

    def _command(self, words: list[str]) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                code = xpdl.cli.main(words)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 0
        if code not in (0, 2):
            raise AssertionError(f"exit code {code}: {errors.getvalue()[:200]}")
        if code == 2 and errors.getvalue().count("\n") != 1:
            raise AssertionError(f"not one line: {errors.getvalue()[:200]!r}")

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """What is done here is ours and not the reader's."""
        global _watching
        before, _watching = _watching, False
        try:
            yield
        finally:
            _watching = before


NAMES = ("pickle", "safetensors", "header", "metadata", "pytorch", "idx", "gzip", "image", "arguments")


def _without_work() -> None:
    """Commands check their arguments and start nothing that takes long."""

    def stopped(*_: Any, **__: Any) -> None:
        raise ValueError("stopped before the work")

    for name in ("bench", "profile"):
        setattr(xpdl.cli.bench, name, stopped)
    xpdl.cli.Trainer.train = stopped  # type: ignore[method-assign,assignment]
    xpdl.cli.xpdl.available_backends = lambda: {"numpy": "ok"}  # type: ignore[attr-defined]


def run_case(read: Callable[[], Any], watched: bool = True) -> str | None:
    """How a case ends: None if it is read, ``"refused"``, or what must not have happened."""
    global _watching
    _seen.clear()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _watching = watched
    try:
        read()
        outcome = None
    except DOCUMENTED:
        outcome = "refused"
    except Hang:
        outcome = f"took more than {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome = f"{type(error).__name__}: {error!s:.200}"
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    # the case itself is written by the fuzzer
    forbidden = [event for event in _seen if "/case'" not in event]
    return f"did {'; '.join(forbidden)}" if forbidden else outcome


def fuzz(name: str, seed: int, seconds: float, findings: Path) -> collections.Counter[str]:
    """Cases of one target for so many seconds, counted by how they end."""
    rng = random.Random(f"{name} {seed}")
    counts: collections.Counter[str] = collections.Counter()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        cases = getattr(Targets(rng, Path(folder)), name)()
        os.chdir(folder)
        # commands may write where they are told to; files may not
        watched = name != "arguments"
        for _ in range(50):  # until everything is imported that is imported late
            run_case(next(cases)[1], watched=False)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data, read = next(cases)
            outcome = run_case(read, watched)
            if outcome not in (None, "refused"):
                counts["findings"] += 1
                findings.mkdir(exist_ok=True)
                kept = findings / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
                kept.write_bytes(data)
                print(f"{name}: {outcome}; kept as {kept}")
            counts["read" if outcome is None else "refused" if outcome == "refused" else "other"] += 1
        os.chdir("/")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--record", type=Path, help="append a row for each target to this table")
    args = parser.parse_args()
    findings = Path("findings").absolute()
    record = None if args.record is None else args.record.absolute()
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _alarm)
    sys.addaudithook(_audit)
    warnings.simplefilter("ignore")
    _without_work()
    failed = 0
    for name in args.target:
        counts = fuzz(name, args.seed, args.seconds, findings)
        total = counts["read"] + counts["refused"] + counts["other"]
        row = (
            f"| {datetime.date.today()} | {name} | {args.seed} | {args.seconds:g} | {total:,} | {counts['read']:,} | "
            f"{counts['refused']:,} | {counts['findings']} |"
        )
        print(row, flush=True)
        failed += counts["findings"]
        if record is not None:
            with record.open("a") as table:
                table.write(row + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
