"""Errors of the operating system in words."""

import errno
import os
import socket
from urllib.error import URLError

import pytest

from xpdl.io.os_errors import in_words


def error_of(number, *paths):
    return OSError(number, os.strerror(number), *(one for path in paths for one in (path, None)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (error_of(errno.ENOENT, "net"), "No such file or directory: net"),
        (
            error_of(errno.ENOSPC, "net"),
            "No space left on device: net; free some space there, or choose another folder",
        ),
        (error_of(errno.ENOSPC), "No space left on device; free some space there, or choose another folder"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link: a -> b"),
        (URLError(socket.gaierror(-2, "Name or service not known")), "Name or service not known"),
        (URLError("no host given"), "<urlopen error no host given>"),
        (OSError("a sentence\n  of ours"), "a sentence of ours"),
        (ValueError("another"), "another"),
    ],
)
def test_one_line_without_numbers(error, words):
    assert in_words(error) == words and "Errno" not in words
