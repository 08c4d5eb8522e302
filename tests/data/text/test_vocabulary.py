"""Vocabularies of characters, words and byte pairs."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle

import numpy as np
import pytest

from xpdl import Vocabulary
from xpdl.errors import LabelError

TEXT = "Oh dear! Oh dear! I shall be late!"
SPECIAL = {"padding": "<pad>", "unknown": "<unk>", "begin": "<b>", "end": "<e>"}
MAKERS = {
    "characters": lambda text, **special: Vocabulary.characters(text, **special),
    "words": lambda text, **special: Vocabulary.words(text, **special),
    "byte pairs": lambda text, **special: Vocabulary.byte_pairs(text, 270, **special),
}
EACH = pytest.mark.parametrize("kind", MAKERS)


class TestTokens:
    def test_frequent_characters_come_first_and_ties_are_sorted(self):
        assert Vocabulary.characters("cabbac").tokens == ("a", "b", "c")
        assert Vocabulary.characters("zzyyx").tokens == ("y", "z", "x")

    def test_words_and_signs(self):
        vocabulary = Vocabulary.words("It's a well-known, known thing: a")
        assert vocabulary.tokens == ("a", ",", ":", "it's", "known", "thing", "well-known")

    def test_words_that_are_split_already(self):
        vocabulary = Vocabulary.words(["the", "<unk>", "N", "the"], unknown="<unk>")
        assert vocabulary.tokens == ("the", "<unk>", "n")
        assert vocabulary.encode(["the", "<unk>", "cat"]).tolist() == [0, 1, 1]

    def test_special_words_keep_their_case(self):
        vocabulary = Vocabulary.words(["A", "b", "<EOS>"], end="<EOS>")
        assert set(vocabulary.tokens) == {"a", "b", "<EOS>"}
        assert vocabulary.encode(["A", "<EOS>"]).tolist() == [vocabulary.ids["a"], vocabulary.end_id]

    def test_frequency_cut(self):
        assert Vocabulary.words("a a a b b c", min_count=2).tokens == ("a", "b")
        assert Vocabulary.words("a a a b b c", max_size=1).tokens == ("a",)
        assert Vocabulary.characters("aaabbc", min_count=2, max_size=1).tokens == ("a",)

    def test_special_tokens_come_first(self):
        vocabulary = Vocabulary.characters("ab", **SPECIAL)
        assert vocabulary.tokens == ("<pad>", "<unk>", "<b>", "<e>", "a", "b")
        roles = vocabulary.padding_id, vocabulary.unknown_id, vocabulary.begin_id, vocabulary.end_id
        assert roles == (0, 1, 2, 3)

    def test_special_token_may_be_one_of_the_text(self):
        vocabulary = Vocabulary.characters("a_ a", begin="_", padding=" ")
        assert len(vocabulary) == 3 and vocabulary.begin_id == vocabulary.ids["_"]

    def test_missing_special_token_is_said(self):
        with pytest.raises(AttributeError, match=r"has no padding token; make it with padding='<padding>'"):
            _ = Vocabulary.characters("ab").padding_id
        assert not hasattr(Vocabulary.characters("ab"), "end_id")

    def test_byte_pairs_have_all_bytes(self):
        vocabulary = Vocabulary.byte_pairs("abab abab", 260, end="<e>")
        assert vocabulary.tokens[0] == "<e>" and vocabulary.tokens[257:] == (b"ab", b"abab")

    def test_byte_pairs_need_room_for_all_bytes(self):
        with pytest.raises(ValueError, match="size of byte pairs must be at least 256, the single bytes, got 255"):
            Vocabulary.byte_pairs("ab", 255)

    @pytest.mark.parametrize("text", [3, None, b"bytes"])
    @EACH
    def test_text_that_is_none_is_an_error(self, kind, text):
        with pytest.raises(TypeError, match="Vocabulary: text must be a str"):
            MAKERS[kind](text)

    @pytest.mark.parametrize("option", ["min_count", "max_size"])
    @pytest.mark.parametrize("maker", [Vocabulary.characters, Vocabulary.words])
    def test_counts_are_checked(self, maker, option):
        with pytest.raises(ValueError, match=f"Vocabulary: {option} must be an int of at least 1, got 0"):
            maker("ab", **{option: 0})

    def test_text_without_tokens_is_an_error(self):
        with pytest.raises(ValueError, match="Vocabulary: there are no tokens"):
            Vocabulary.words(" ")

    def test_tokens_must_fit_the_kind(self):
        with pytest.raises(ValueError, match="must be one character, got 'ab'"):
            Vocabulary(["a", "ab"], "characters")
        with pytest.raises(ValueError, match="must begin with the 256 single bytes"):
            Vocabulary([b"a"], "byte pairs")
        with pytest.raises(TypeError, match="tokens of words must be str and not empty, got b'a'"):
            Vocabulary([b"a"])

    def test_roles_must_differ(self):
        with pytest.raises(ValueError, match="padding='<x>' is another special token, too"):
            Vocabulary(["a"], padding="<x>", end="<x>")


class TestEncode:
    @pytest.mark.parametrize("text", ["äöü ß", "日本語\n\n", "👩‍👩‍👧 e\u0301", "\ud800\x00\r\n", "  a  b\t"])
    @pytest.mark.parametrize("maker", [Vocabulary.characters, lambda text: Vocabulary.byte_pairs(TEXT, 270)])
    def test_text_comes_back(self, maker, text):
        vocabulary = maker(text)
        assert vocabulary.decode(vocabulary.encode(text)) == text

    def test_words_come_back_with_blanks_between_them(self):
        vocabulary = Vocabulary.words("Oh, dear")
        assert vocabulary.decode(vocabulary.encode("dear Oh,")) == "dear oh ,"

    def test_byte_pairs_make_rows_shorter(self):
        vocabulary = Vocabulary.byte_pairs(TEXT * 3, 400)
        assert len(vocabulary.encode(TEXT)) < len(TEXT) / 2

    @EACH
    def test_lower(self, kind):
        vocabulary = MAKERS[kind]("oh oh", lower=True)
        np.testing.assert_array_equal(vocabulary.encode("OH"), vocabulary.encode("oh"))

    @EACH
    def test_begin_and_end(self, kind):
        vocabulary = MAKERS[kind](TEXT, **SPECIAL)
        inner = vocabulary.encode("Oh").tolist()
        assert vocabulary.encode("Oh", begin=True, end=True).tolist() == [2, *inner, 3]
        assert vocabulary.decode(vocabulary.encode("Oh", begin=True), special=False).lower() == "oh"
        assert vocabulary.decode([2, 0]).replace(" ", "") == "<b><pad>"

    @pytest.mark.parametrize("kind", ["characters", "words"])
    def test_unknown_token(self, kind):
        vocabulary = MAKERS[kind]("a b", unknown="<unk>")
        assert vocabulary.encode("q").tolist() == [vocabulary.unknown_id]
        with pytest.raises(LabelError, match=rf"'q' is none of the \d {kind}; make the vocabulary with unknown="):
            MAKERS[kind]("a b").encode("a q")

    @EACH
    def test_empty_text(self, kind):
        vocabulary = MAKERS[kind](TEXT)
        ids = vocabulary.encode("")
        assert ids.shape == (0,) and ids.dtype == np.int64 and vocabulary.decode(ids) == vocabulary.decode([]) == ""

    @pytest.mark.backends("values")
    @pytest.mark.skip_backend("jit", reason="nothing to trace")
    def test_ids_are_arrays_of_the_backend_in_use(self, backend):
        vocabulary = Vocabulary.characters(TEXT)
        with backend.use():
            ids = vocabulary.encode("dear")
            assert vocabulary.decode(ids) == "dear"
        backend.check(ids, vocabulary.encode("dear"))

    @pytest.mark.parametrize("ids", [[[0]], [0.5], 3, "ab", None])
    def test_ids_that_are_none_are_an_error(self, ids):
        with pytest.raises(TypeError, match=r"Vocabulary\.decode: ids must be integers in one row, got"):
            Vocabulary.characters("ab").decode(ids)

    @pytest.mark.parametrize("number", [-1, 2, 10**30])
    def test_ids_of_no_token_are_an_error(self, number):
        with pytest.raises((LabelError, TypeError), match=f"{number}"):
            Vocabulary.characters("ab").decode([number])


class TestFile:
    @EACH
    def test_comes_back(self, kind, tmp_path):
        vocabulary = MAKERS[kind]("äöü \ud800" + TEXT, lower=True, **SPECIAL)
        vocabulary.save(tmp_path / "vocabulary.json")
        assert (tmp_path / "vocabulary.json").read_bytes().isascii()
        again = Vocabulary.load(tmp_path / "vocabulary.json")
        assert again == vocabulary and again.tokens == vocabulary.tokens and again.special == vocabulary.special
        np.testing.assert_array_equal(again.encode(TEXT), vocabulary.encode(TEXT))

    @EACH
    def test_copies_are_equal(self, kind):
        vocabulary = MAKERS[kind](TEXT, **SPECIAL)
        assert copy.deepcopy(vocabulary) == pickle.loads(pickle.dumps(vocabulary)) == vocabulary

    def test_differs_in_each_part(self):
        options = [{}, {"lower": True}, {"end": "<e>"}, {"end": "<end>"}, {"begin": "<e>"}, {"kind": "characters"}]
        made = [Vocabulary(tokens, **each) for tokens in (["a", "b"], ["b", "a"]) for each in options]
        assert [[a == b for b in made] for a in made] == np.eye(len(made), dtype=bool).tolist()
        assert made[0] != ["a", "b"]

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"\xff", b"[]", b"{}", b"null", b"[" * 100_000, b'{"format": "xpdl vocabulary"}'),
            *(b'{"format": "xpdl vocabulary", "kind": "words", "lower": false, "special": {}, "tokens": %s}' % tokens
              for tokens in (b"3", b"[]", b"[1]", b'["a", "a"]', b'"ab"', b"null", b'[["a"]]', b'{"a": 1}')),
            *(b'{"format": "xpdl vocabulary", "kind": %s, "lower": %s, "special": %s, "tokens": ["ab"]}' % parts
              for parts in (
                  *((b'"byte pairs"', b"false", b"{}"), (b'"characters"', b"false", b"{}"), (b"[1]", b"false", b"{}")),
                  *((b'"words"', b"1", b"{}"), (b'"words"', b"false", b'{"kind": "x"}'), (b'"words"', b"false", b"[]")),
                  *((b'"words"', b"false", b'{"more": "x"}'), (b'"words"', b"false", b'{"end": 3}')),
              )),
        ],
    )  # fmt: skip
    def test_damaged_file_is_one_clear_error(self, tmp_path, content):
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"file\.json: is not a vocabulary \(") as error:
            Vocabulary.load(tmp_path / "file.json")
        assert len(str(error.value)) < 1000

    @EACH
    def test_file_with_any_byte_missing_or_changed_is_an_error_or_a_vocabulary(self, kind, tmp_path):
        whole = MAKERS[kind]("abcabc", **SPECIAL).to_json()
        rng = np.random.default_rng(0)
        for place in [*range(60), *rng.integers(0, len(whole), 60).tolist()]:
            with pytest.raises(ValueError):
                Vocabulary.from_json(whole[:place])
            content = whole[:place] + "{" + whole[place + 1 :]
            try:
                assert isinstance(Vocabulary.from_json(content), Vocabulary)
            except ValueError as error:
                assert str(error)

    def test_other_formats_are_refused(self):
        content = json.loads(Vocabulary(["a"]).to_json())
        with pytest.raises(ValueError, match="expected a dict of the format 'xpdl vocabulary'"):
            Vocabulary.from_json(json.dumps(content | {"format": "history"}))

    def test_full_disk_leaves_the_old_file_alone(self, tmp_path, monkeypatch):
        old, new = Vocabulary(["a"]), Vocabulary(["b"])
        old.save(tmp_path / "file.json")

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for name in ("file.json", "other.json"):
            with pytest.raises(OSError, match="No space left on device"):
                new.save(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
        assert Vocabulary.load(tmp_path / "file.json") == old


def test_repr_says_size_and_special_tokens():
    assert repr(Vocabulary.words("a b", unknown="<unk>")) == "Vocabulary(3 words, lower, unknown='<unk>')"
    assert repr(Vocabulary.characters("ab")) == "Vocabulary(2 characters)"


def test_length_and_membership():
    vocabulary = Vocabulary.characters("ab")
    assert len(vocabulary) == 2 and "a" in vocabulary and "c" not in vocabulary
