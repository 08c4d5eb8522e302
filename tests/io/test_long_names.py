"""Names of files as long as a file system takes, through everything that writes atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.io.atomic import prepare_to_write, remove_partial, write_atomically
from xpdl.io.file_lock import locked
from xpdl.io.paths import beside
from xpdl.training.checkpoint.rotation import CheckpointFiles

LONGEST = 255
NAMES = ["a" * LONGEST, "数" * (LONGEST // 3), "b" * 250, "x数" + "ü" * 118 + ".safetensors"]
X, T = np.random.default_rng(0).normal(size=(8, 3)).astype("float32"), np.arange(8) % 2


def net() -> Any:
    model = xpdl.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    model.build((3,))
    return model


def trained(**options: Any) -> Any:
    trainer = xpdl.Trainer(net(), X, T, epochs=3, mini_batch_size=4, seed=0, verbose=False, **options)
    trainer.train()
    return trainer


WRITERS = {
    "model": lambda path: net().save(path),
    "parameters": lambda path: net().save_params(path),
    "history": lambda path: trained().history.save(path),
    "vocabulary": lambda path: xpdl.Vocabulary.characters("abc").save(path),
    "csv": lambda path: trained(callbacks=[xpdl.CSVLogger(path)]),
    "best weights": lambda path: trained(callbacks=[xpdl.ModelCheckpoint(path, monitor="loss")]),
    "checkpoint": lambda path: trained(checkpoint=path, checkpoint_every=1),
}


@pytest.mark.parametrize("name", NAMES, ids=["255 letters", "255 bytes of kanji", "250 letters", "mixed"])
@pytest.mark.parametrize("writer", WRITERS)
def test_the_longest_names_can_be_written(writer: str, name: str, tmp_path: Path) -> None:
    WRITERS[writer](tmp_path / name)
    assert (tmp_path / name).stat().st_size > 0
    prepare_to_write(tmp_path / name)
    write_atomically(tmp_path / name, b"again")
    assert (tmp_path / name).read_bytes() == b"again"


@pytest.mark.parametrize("name", NAMES, ids=["255 letters", "255 bytes of kanji", "250 letters", "mixed"])
def test_checkpoints_before_the_newest_are_kept_and_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    trained(checkpoint=path, checkpoint_every=2, max_checkpoints=3)
    files = CheckpointFiles(path, 3)
    assert len(list(tmp_path.iterdir())) == 3 == sum(one.exists() for one in files._paths())
    path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="going on from"):
        trained(checkpoint=path, checkpoint_every=2, max_checkpoints=3)
    assert files.set_aside() is not None
    assert not files.exist() and len(list(tmp_path.iterdir())) == 3


def test_names_beside_a_file_fit_and_differ() -> None:
    for length in nonempty(range(200, LONGEST + 1)):
        path = Path("folder") / ("n" * length)
        names = [beside(path, ".", ".0123456789abcdef.part"), beside(path, ".", ".lock"), beside(path, "", ".1")]
        assert all(len(os.fsencode(one.name)) <= LONGEST and one.parent == path.parent for one in names)
        assert len({*names, path}) == 4
    long = Path("n" * 254)
    assert beside(long / "a", "", ".1") != beside(long / "b", "", ".1")
    alike = [beside(Path("n" * 254 + end), ".", ".lock") for end in "ab"]
    assert alike[0] != alike[1]
    assert beside(Path("net.json"), ".", ".lock") == Path(".net.json.lock")


def test_what_a_killed_one_left_of_a_long_name_is_removed(tmp_path: Path) -> None:
    path, other = tmp_path / ("a" * LONGEST), tmp_path / ("a" * (LONGEST - 1) + "b")
    for file in (path, other):
        beside(file, ".", ".0123456789abcdef.part").touch()
    remove_partial(path)
    assert list(tmp_path.iterdir()) == [beside(other, ".", ".0123456789abcdef.part")]


def test_lock_of_a_long_name(tmp_path: Path) -> None:
    path = beside(tmp_path / ("a" * LONGEST), ".", ".lock")
    with locked(path):
        assert path.exists()


@pytest.mark.needs("onnx")
def test_onnx_file_of_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("a" * (LONGEST - 5) + ".onnx")
    xpdl.onnx.export(net(), path, (3,))
    assert path.stat().st_size > 0
