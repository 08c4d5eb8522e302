"""Any text comes back from the ids that vocabularies have for it."""

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given
from hypothesis import strategies as st

from xpdl import Vocabulary
from xpdl.data.text import byte_pairs

# surrogates alone, too, which UTF-8 has no bytes for
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
LEARNT = Vocabulary.byte_pairs("Oh dear! Oh dear! I shall be late! " * 3, 300, padding="<pad>")


@given(ANY_TEXT)
def test_pieces_are_the_whole_text(text):
    assert byte_pairs.text_of(b"".join(byte_pairs.pieces(text))) == text


@given(ANY_TEXT)
def test_text_comes_back_from_byte_pairs(text):
    assert LEARNT.decode(LEARNT.encode(text)) == text


@given(ANY_TEXT.filter(bool))
def test_text_comes_back_from_characters(text):
    vocabulary = Vocabulary.characters(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
