"""Feed altered files and arguments to everything that reads them, and look for what must not happen.

    python scripts/fuzz.py --seconds 60 --seed 1 [--target pickle] [--record tests/fuzz/README.md]

A case is a valid input altered in a few places, at random from the seed. It may be read, or be refused by a documented
error. Anything else is a finding: another exception, more than two seconds, more than four gigabytes of memory, and what a
file must never bring about: a process, a connection, a file written or removed, code compiled. Findings are kept as files
in the folder ``findings``; make a regression test of each. The exit code says whether there were any.
"""

from __future__ import annotations

import argparse
import codecs
import collections
import contextlib
import dataclasses
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
from xpdl.bench import command
from xpdl.cli import sources
from xpdl.data.idx import read_idx
from xpdl.data.images import load_digit
from xpdl.data.pictures import load_picture
from xpdl.integrations.pytorch import load_pytorch
from xpdl.io import tensors
from xpdl.models import MODELS, load_model
from xpdl.search.result import SearchResult, Trial, TrialLog
from xpdl.training import CSVLogger, EarlyStopping, History, JSONLogger, Trainer
from xpdl.training.checkpoint import format as checkpoint_format
from xpdl.training.run_state import RunState

SECONDS = 2
BYTES = 4 << 30
#: the errors that readers document
DOCUMENTED = (ValueError, OSError, TypeError, xpdl.BackendError)
#: Python's audit events, see its documentation
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
        self._states: dict[str, dict[str, Any]] = {}
        self.arrays = {
            "W1": np.ones((2, 3), np.float32),
            "b1": np.zeros(3),
            "n": np.asarray(7),
            "t": np.arange(5, dtype="u1"),
        }

    def _files(self, seeds: Sequence[bytes], words: Sequence[bytes], read: Callable[[], Any]) -> Iterator[Case]:
        while True:
            data = self.altered(seeds, words)
            yield data, lambda data=data: (self._write(data), read())

    def altered(self, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
        """One of `seeds`, changed in a few places."""
        return altered(self.rng.choice(seeds), self.rng, words)

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
        return self._files(seeds, opcodes + names, lambda: tensors.load_arrays(self.file))

    def safetensors(self) -> Iterator[Case]:
        path = self.file.with_name("seed")
        tensors.write_tensors(path, self.arrays, {"model": "TwoLayerNet"})
        seeds = [path.read_bytes()]
        tensors.write_plain_tensors(path, self.arrays, {"format": "pt"})
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
        return self._files(seeds, words, lambda: tensors.load_arrays(self.file))

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
            yield data, lambda data=data: (self._write(data), tensors.load_arrays(self.file))

    def metadata(self) -> Iterator[Case]:
        """Files whose checksum is right, and whose description of a model, or whose arrays, are not."""
        while True:
            name = self.rng.choice(sorted(MODELS))
            config = {key: self.rng.choice(values) for key, values in self._config(name).items()}
            arrays = self._arrays_of(name, config)
            if self.rng.random() < 0.3:
                arrays = self._other_arrays(arrays)
            described: Any = {"model": name, "config": config}
            if self.rng.random() < 0.5:
                described = other_value(described, self.rng)
            if not isinstance(described, dict):
                described = {"config": described}
            metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
            if self.rng.random() < 0.1:
                text = altered(metadata.get("config", "").encode(), self.rng, [b"[", b"{", b"1e999"])
                metadata["config"] = text.decode("utf-8", "replace")
            version = self.rng.choice(("2", "-1", "", "x", "9" * 99)) if self.rng.random() < 0.1 else "1"
            header = {**metadata, "format": "xpdl", "format_version": version}
            header["sha256"] = tensors._checksum(arrays, header)

            def read(header: dict[str, str] = header, arrays: dict[str, Any] = arrays) -> None:
                with self.preparing():
                    tensors.write_plain_tensors(self.file, arrays, header)
                load_model(self.file)

            yield json.dumps([header, {key: [str(a.dtype), a.shape] for key, a in arrays.items()}]).encode(), read

    def _config(self, name: str) -> dict[str, Sequence[Any]]:
        """Arguments of a model, some of them omitted, and values for each."""
        sizes, stds = (1, 2, 3, 4), (0.01, 1, "relu", "sigmoid", "he", "xavier")
        images = ([1, 8, 8], [2, 9, 8], [1, 28, 28])
        conv = [
            {"filter_num": filters, "filter_size": size, "pad": pad, "stride": stride}
            for filters, size, pad, stride in ((2, 3, 0, 1), (1, 2, 1, 1), (3, 1, 0, 1), (2, 3, 1, 2))
        ]
        net: dict[str, Sequence[Any]] = {"output_size": sizes, "weight_init_std": stds}
        if name == "DeepConvNet":
            net = {"input_dim": images[:2], "hidden_size": sizes, "output_size": sizes}
        elif name == "SimpleConvNet":
            net = {"input_dim": images, "conv_param": conv, "hidden_size": sizes, **net}
        elif name == "TwoLayerNet":
            net = {"input_size": sizes, "hidden_size": sizes, **net}
        else:
            net = {"input_size": sizes, "hidden_size_list": ([], [1], [3, 2]), **net, "weight_decay_lambda": (0, 0.1)}
            net["activation"] = ("relu", "sigmoid", "tanh")
        if name == "MultiLayerNetExtend":
            net.update(use_dropout=(True, False), dropout_ration=(0.0, 0.5), use_batchnorm=(True, False))
        needed = {"input_size", "hidden_size", "hidden_size_list", "output_size", "input_dim"}
        return {key: values for key, values in net.items() if key in needed or self.rng.random() < 0.7}

    def _arrays_of(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps([name, config])
        if key not in self._states:
            with self.preparing():
                try:
                    made = MODELS[name](**config).state_dict()
                except DOCUMENTED:
                    made = {}
            self._states[key] = made
        return dict(self._states[key])

    def _other_arrays(self, arrays: dict[str, Any]) -> dict[str, Any]:
        kind, name = self.rng.randrange(5), self.rng.choice(sorted(arrays)) if arrays else "W1"
        array = arrays.get(name, np.zeros(3, np.float32))
        if kind == 0:
            arrays.pop(name, None)
        elif kind == 1:
            arrays[self.rng.choice(("W9", "", "\u2028", "running_mean1"))] = array
        elif kind == 2:
            arrays[name] = array.reshape(-1)
        elif kind == 3:
            arrays[name] = array.astype(self.rng.choice(("f2", "f8", "i8", "bool")))
        else:
            arrays[name] = np.full_like(array, self.rng.choice((np.nan, np.inf, 1e38)))
        return arrays

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
                    tensors.write_plain_tensors(self.file, arrays, {})
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
                data = gzip.compress(self.altered([seed], [b"\xff" * 4]), compresslevel=1, mtime=0)
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

    def picture(self) -> Iterator[Case]:
        """Pictures of every mode, with transparency and orientation, of which rows are made."""
        from PIL import Image

        grey = Image.fromarray(np.arange(30 * 34, dtype=np.uint16).reshape(30, 34) % 251)
        seeds = [b"Pf\n4 3\n-1.0\n" + np.linspace(0, 1, 12, dtype="<f4").tobytes()]
        seeds.append(b"P5\n4 3\n4095\n" + np.arange(12, dtype=">u2").tobytes())
        orientation = Image.Exif()
        orientation[0x0112] = 6
        for kind, mode, options in (
            *(("PNG", mode, {"exif": orientation}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
            *(("PNG", mode, {"transparency": 7}) for mode in ("L", "P")),
            *(("JPEG", mode, {"exif": orientation}) for mode in ("L", "RGB", "CMYK")),
            *(("WEBP", mode, {}) for mode in ("RGB", "RGBA")),
        ):
            buffer = io.BytesIO()
            Image.fromarray(np.asarray(grey, np.uint8)).convert("RGB").convert(mode).save(buffer, kind, **options)
            seeds.append(buffer.getvalue())
        buffer = io.BytesIO()
        grey.save(buffer, "PNG", transparency=7)
        seeds.append(buffer.getvalue())
        words = [b"IHDR", b"tRNS", b"eXIf", b"Exif\0\0MM\0*", b"\xff\xe1", b"ALPH", b"VP8X", b"65535", b"nan", b"1e999"]
        read = [(channels, fit) for channels in (1, 3) for fit in ("crop", "letterbox")]
        return self._files(seeds, words, lambda: [load_picture(self.file, 8, channels=c, fit=fit) for c, fit in read])

    def _json(self, value: Any, read: Callable[[], Any]) -> Iterator[Case]:
        """A file of JSON whose values, or whose bytes, are altered."""
        while True:
            if self.rng.random() < 0.7:
                data = json.dumps(other_value(value, self.rng)).encode()
            else:
                words = [b"[" * 5000, b'{"a":' * 5000, b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"\\ud800", b"\xff"]
                data = altered(json.dumps(value).encode(), self.rng, words)
            yield data, lambda data=data: (self._write(data), read())

    def history(self) -> Iterator[Case]:
        history = History([0.5, 0.25], [0.5], [0.5], [1.0], seconds=[1.5], metrics={"test_f1": [0.5]})
        path = self.file.with_name("seed")
        history.save(path)

        def read() -> None:
            found = History.load(self.file)
            if not all(type(number) in (int, float) for numbers in found.lists().values() for number in numbers):
                raise AssertionError(f"numbers that are none: {found.lists()!r}")

        return self._json(json.loads(path.read_bytes()), read)

    def vocabulary(self) -> Iterator[Case]:
        special = {"padding": "<p>", "unknown": "<u>"}
        made = [
            xpdl.Vocabulary.characters("abracadabra", **special),
            xpdl.Vocabulary.words("a rose is a rose", **special),
            xpdl.Vocabulary.byte_pairs("a rose is a rose is a rose", 262, **special),
        ]

        def read() -> None:
            vocabulary = xpdl.Vocabulary.load(self.file)
            if xpdl.Vocabulary.from_json(vocabulary.to_json()) != vocabulary:
                raise AssertionError(f"not the same again: {vocabulary!r}")
            vocabulary.decode(range(len(vocabulary)))

        parts = [self._json(json.loads(one.to_json()), read) for one in made]
        while True:
            yield next(self.rng.choice(parts))

    def search(self) -> Iterator[Case]:
        """Logs of searches, one of whose lines is altered."""
        header = {"search": "random_search", "seed": 3, "space": {"x": "uniform(0, 1)"}}
        log = TrialLog(self.file.with_name("seed"), header)
        for number in range(2):
            log.add(Trial(number, {"x": 0.5}, 0.25, History([1.0]), 1.5, number or None))
        lines = self.file.with_name("seed").read_bytes().splitlines(keepends=True)

        def read() -> None:
            # parameters are drawn again, and not those of the file
            trials = [dataclasses.replace(one, params={"x": 0.5}) for one in TrialLog(self.file, header).done.values()]
            if trials:
                str(SearchResult(trials))

        while True:
            place = self.rng.randrange(len(lines))
            data, _ = next(self._json(json.loads(lines[place]), read))
            whole = b"".join([*lines[:place], data, b"\n", *lines[place + 1 :]])
            yield whole, lambda whole=whole: (self._write(whole), read())

    def _trainer(self, **options: Any) -> Trainer:
        x, t = np.ones((6, 4), np.float32), np.arange(6) % 3
        net = xpdl.TwoLayerNet(4, 2, 3, seed=0)
        callbacks = [EarlyStopping("loss"), xpdl.CosineLR()]
        chosen = {"epochs": 2, "optimizer": "adam", "callbacks": callbacks, "seed": 0, "verbose": False, **options}
        return Trainer(net, x, t, **chosen)

    def checkpoint(self) -> Iterator[Case]:
        """Checkpoints whose checksum is right, and whose description or arrays are not."""
        path = self.file.with_name("seed")
        self._trainer(checkpoint=path).train()
        arrays, metadata = tensors.load_arrays(path)
        while True:
            changed, described = dict(arrays), dict(metadata)
            if self.rng.random() < 0.3:
                changed = self._other_arrays(changed)
            key = self.rng.choice(sorted(described))
            if described[key].startswith(("{", "[")):
                value = other_value(json.loads(described[key]), self.rng)
                described[key] = "[" * 5000 if self.rng.random() < 0.02 else json.dumps(value)
            else:
                described[key] = altered(described[key].encode(), self.rng, [b"1", b"{"]).decode("utf-8", "replace")

            def read(arrays: dict[str, Any] = changed, metadata: dict[str, str] = described) -> None:
                with self.preparing():
                    tensors.write_tensors(self.file, arrays, metadata)
                    trainer = self._trainer()
                checkpoint_format.load(trainer.as_run(), RunState(), self.file)

            yield json.dumps([described, {key: [str(a.dtype), a.shape] for key, a in changed.items()}]).encode(), read

    def log(self) -> Iterator[Case]:
        """Logs of a run that goes on, damaged: what is left of them is kept."""
        paths = {kind: self.file.with_name(kind.__name__) for kind in (CSVLogger, JSONLogger)}
        trainer = self._trainer(callbacks=[kind(path) for kind, path in paths.items()])
        trainer.train()
        words = [b"nan", b"1e999", b'"', b"\0", b"\r", b"9" * 5000, b"[" * 5000, b"\xef\xbb\xbf", b"\xff"]
        while True:
            kind = self.rng.choice(sorted(paths, key=str))
            data = altered(paths[kind].read_bytes(), self.rng, words)
            yield data, lambda data=data, kind=kind: (self._write(data), kind(self.file)._kept(trainer))

    def arguments(self) -> Iterator[Case]:
        """Commands as they are meant, with some words that are not."""
        folder = self.file.parent
        with self.preparing():
            xpdl.TwoLayerNet(784, 3, 10, seed=0).save_params(folder / "net")
            self._digit(folder / "digit.png")
        numbers, odd = ("1", "2", "40"), ("0", "-1", "nan", "inf", "1e400", "1.5", "", "10" * 50, "x" * 300)
        files = [str(folder / name) for name in ("net", "digit.png", "case", "nothing", "runs")] + ["", "/nowhere/file"]
        odd_words = (*odd, " ", "-", "--", "--help", "--version", "\u2028", "\udcff", *files)
        train = {
            "--model": MODELS,
            "--data": ("mini", "mnist"),
            "--backend": ("numpy", "auto"),
            "--epochs": numbers,
            "--batch-size": numbers,
            "--optimizer": ("sgd", "adam", "adamw", "momentum"),
            "--lr": ("0.1", "1e-3", "0"),
            "--seed": ("0", "7"),
            "--out": (str(folder / "runs"), str(folder / "other")),
            "--checkpoint-every": numbers,
            "--resume": (),
            "--debug": (),
        }
        read: dict[str, Sequence[str]] = {"--data": ("mini",), "--backend": ("numpy",), "--debug": ()}
        bench = {
            "--model": ("MLP",),
            "--task": ("train", "predict"),
            "--rounds": numbers,
            "--json": files,
            "--memory": (),
        }
        grammar: dict[str, tuple[Sequence[Sequence[str]], Any]] = {
            "train": ((), train),
            "evaluate": ((files,), read),
            "predict": ((files, files), {"--backend": ("numpy",), "--debug": ()}),
            "info": ((), {"--debug": ()}),
            "bench": ((), {**bench, "--backend": ("numpy",), "--profile": (), "--against": ("torch",)}),
        }
        while True:
            command = self.rng.choice(sorted(grammar))
            positional, options = grammar[command]
            words = [command, *(self.rng.choice(values[: self.rng.choice((2, len(values)))]) for values in positional)]
            for option in self.rng.sample(sorted(options), self.rng.randrange(min(5, len(options) + 1))):
                words.append(option)
                if options[option]:
                    usual = self.rng.random() < 0.9
                    words.append(self.rng.choice(sorted(options[option]) if usual else odd_words))
            if self.rng.random() < 0.2:
                place = self.rng.randrange(len(words) + 1)
                words[place : place + self.rng.randrange(2)] = [self.rng.choice(odd_words)]
            yield repr(words).encode(), lambda words=words: self._command(words)

    def _digit(self, path: Path) -> None:
        from PIL import Image

        pixels = np.zeros((30, 34), np.uint8)
        pixels[5:20, 10:14] = 200
        Image.fromarray(pixels).save(path)

    def _command(self, words: list[str]) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                code = xpdl.cli.main(words)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 0
        said = errors.getvalue().rstrip("\n").split("\n")
        # the choice of "auto", and warnings, come before
        lines = [line for line in said if ": warning: " not in line and not line.startswith("xpdl: using ")]
        # 1: some pictures cannot be read, or a net cannot be written
        if code not in (0, 1, 2) or (code == 2 and len(lines) != 1):
            raise AssertionError(f"exit code {code}, not one line: {errors.getvalue()[:300]!r}")
        if code == 2:
            raise ValueError(lines[0])

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Suspend the audit: the work inside belongs to the fuzzer, not to the reader."""
        global _watching
        before, _watching = _watching, False
        try:
            yield
        finally:
            _watching = before


NAMES = (
    *("pickle", "safetensors", "header", "metadata", "pytorch", "idx", "gzip", "image", "picture", "arguments"),
    *("history", "vocabulary", "search", "checkpoint", "log"),
)


def _without_work() -> None:
    """Commands do nothing that takes long: data sets are small, and trainings of more than two epochs are not begun."""

    def stopped(*_: Any, **__: Any) -> None:
        raise ValueError("stopped before the work")

    (x, t), (x_test, t_test) = xpdl.load_mini_mnist(flatten=False)

    def few_rows(flatten: bool = True, verify: bool = True) -> Any:
        shape = (784,) if flatten else (1, 28, 28)
        return (x[:40].reshape(-1, *shape), t[:40]), (x_test[:10].reshape(-1, *shape), t_test[:10])

    # kernels are loaded here, and not in a case that an alarm breaks off
    for net in (xpdl.TwoLayerNet(784, 3, 10, seed=0), xpdl.SimpleConvNet(seed=0)):
        Trainer(net, x[:40].reshape(40, *net.input_shape), t[:40], epochs=1, verbose=False).train()
    train = Trainer.train
    Trainer.train = lambda self, epochs=None: (  # type: ignore[method-assign]
        train(self, epochs) if self.epochs < 3 else stopped()
    )
    sources.SETS.update(dict.fromkeys(sources.SETS, few_rows))
    for name in ("bench", "profile", "memory", "scaling", "epoch"):
        setattr(command, name, stopped)
    xpdl.available_backends = lambda: {"numpy": "ok"}


def run_case(read: Callable[[], Any], watched: bool = True) -> str | None:
    """Result of a case: None if it is read, ``"refused"``, or what must not have happened."""
    global _watching
    _seen.clear()
    # of the processor, so that a machine that is busy or asleep is no finding; waiting for something is one after longer
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 20 * SECONDS)
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
        signal.setitimer(signal.ITIMER_PROF, 0)
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
            count(counts, name, data, outcome, findings)
        os.chdir("/")
    return counts


def count(counts: collections.Counter[str], name: str, data: bytes, outcome: str | None, findings: Path) -> None:
    """Count how a case ended, and keep its bytes if it must not have."""
    if outcome not in (None, "refused"):
        counts["findings"] += 1
        findings.mkdir(exist_ok=True)
        kept = findings / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
        kept.write_bytes(data)
        print(f"{name}: {outcome}; kept as {kept}", flush=True)
    counts["read" if outcome is None else "refused" if outcome == "refused" else "other"] += 1


def report(counts: collections.Counter[str], name: str, seed: int, seconds: float, record: Path | None) -> None:
    """One row of the table of all runs."""
    total = counts["read"] + counts["refused"] + counts["other"]
    row = (
        f"| {datetime.date.today()} | {name} | {seed} | {seconds:g} | {total:,} | {counts['read']:,} | "
        f"{counts['refused']:,} | {counts['findings']} |"
    )
    print(row, flush=True)
    if record is not None:
        with record.open("a") as table:
            table.write(row + "\n")


def prepare() -> None:
    """Limits, and eyes on what a file must not bring about."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, resource.RLIM_INFINITY))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _alarm)
    sys.addaudithook(_audit)
    warnings.simplefilter("ignore")
    for name in (
        "raw_unicode_escape",
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
    ):
        codecs.lookup(name)  # modules of Python's that unpickling a string, and reading JSON, import
    _without_work()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--record", type=Path, help="append a row for each target to this table")
    args = parser.parse_args()
    findings = Path("findings").absolute()
    record = None if args.record is None else args.record.absolute()
    prepare()
    failed = 0
    for name in args.target:
        counts = fuzz(name, args.seed, args.seconds, findings)
        report(counts, name, args.seed, args.seconds, record)
        failed += counts["findings"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
