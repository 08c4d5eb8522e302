"""The book in the package."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import pytest

from xpdl import load_alice
from xpdl.data.text import alice

FILE = Path(alice.__file__).with_name("alice.txt.gz")


def test_is_clean_ascii():
    text = load_alice()
    assert len(text) == 148426 and text.isascii() and len(set(text)) == 70
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert text[0] != "\n" and text[-2:] != "\n\n" and all(line == line.rstrip() for line in text.splitlines())
    assert text.count("CHAPTER") == 12 and "Gutenberg" not in text and "EDITION" not in text


def test_is_small_and_has_a_note_of_its_source():
    assert FILE.stat().st_size < 60_000
    note = FILE.with_name("alice.LICENSE.md").read_text()
    assert "public domain" in note and "scripts/make_alice.py" in note


@pytest.mark.parametrize("place", [0, 20, 30_000, -8, -1])
def test_damaged_file_is_an_error(monkeypatch, tmp_path, place):
    damaged = bytearray(FILE.read_bytes())
    damaged[place] ^= 1
    assert_refused(monkeypatch, tmp_path, bytes(damaged))


@pytest.mark.parametrize("content", [b"", FILE.read_bytes()[:-9], gzip.compress(b"another text")])
def test_other_content_is_an_error(monkeypatch, tmp_path, content):
    assert_refused(monkeypatch, tmp_path, content)


def assert_refused(monkeypatch, folder, content):
    (folder / "alice.txt.gz").write_bytes(content)
    monkeypatch.setattr(alice.resources, "files", lambda _: folder)
    with pytest.raises(ValueError, match=r"alice\.txt\.gz: is damaged; install xpdl again"):
        load_alice()


def test_script_cleans_the_source():
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "make_alice.py"))
    lines = load_alice().split("\n")
    source = "\r\n\r\n" + "\r\n".join([*lines[:4], "  THE MILLENNIUM FULCRUM EDITION 2.9  ", *lines[4:], "", "\x1a"])
    assert script["cleaned"](source.encode()) == load_alice()


def test_script_refuses_another_source(tmp_path):
    script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "make_alice.py"))
    (tmp_path / "other.txt").write_text("CHAPTER I")
    with pytest.raises(SystemExit, match=r"other\.txt: is not alice29\.txt"):
        script["source"](tmp_path / "other.txt")
