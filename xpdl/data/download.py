"""Files from the net: whole and right, or not there at all."""

from __future__ import annotations

import hashlib
import http.client
import socket
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from xpdl.io.atomic import write_atomically
from xpdl.io.file_lock import locked
from xpdl.io.paths import beside

_SECONDS = 30  # without an answer
_PAUSES = (1.0, 4.0)  # seconds before the second and the third round
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # status codes after which another attempt may succeed
_BLOCK = 1 << 16


def has_hash(path: Path, sha256: str) -> bool:
    """Return whether the file is there and has the content that it should."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def fetch_file(name: str, urls: Sequence[str], path: Path, size: int, sha256: str) -> None:
    """Download a file and keep it as `path`, written atomically and only if it has the right content.

    Of several processes that want the same file, one downloads and the others wait for it, at a lock file beside `path`.

    Parameters
    ----------
    name : str
        For the progress bar, shown where standard error is a terminal.
    urls : sequence of str
        Mirrors, tried in order; those that failed for a reason that may pass, such as a connection that broke, are tried
        again twice, after 1 and 4 seconds.
    size, sha256
        Of the content; more than `size` bytes are never read.

    Raises
    ------
    OSError
        If no mirror gives the right content; the message says what each did, and no part of the file is left.
    """
    _fetch(name, urls, path, size, sha256, packed=False)


def fetch_gzip(name: str, urls: Sequence[str], path: Path, size: int, sha256: str) -> None:
    """As `fetch_file`, of a gzip file that is unpacked on the way: `size` and `sha256` are of what it holds."""
    _fetch(name, urls, path, size, sha256, packed=True)


def _fetch(name: str, urls: Sequence[str], path: Path, size: int, sha256: str, packed: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(beside(path, ".", ".lock")):
        if has_hash(path, sha256):  # another process was here first
            return
        write_atomically(path, _from_first(name, urls, size, sha256, packed))


def _from_first(name: str, urls: Sequence[str], size: int, sha256: str, packed: bool) -> bytes | bytearray:
    """The content from the first mirror that has it."""
    reasons: dict[str, str] = {}
    for pause in (0.0, *_PAUSES):
        time.sleep(pause)
        again = []
        for url in urls:
            try:
                content = _downloaded(name, url, size, packed)
            except (OSError, http.client.HTTPException, zlib.error) as error:
                reasons[url] = str(error) or type(error).__name__
                if _may_pass(error):
                    again.append(url)
                continue
            if len(content) == size and hashlib.sha256(content).hexdigest() == sha256:
                return content
            reasons[url] = "its content is not what it should be"
        urls = again
        if not urls:
            break
    raise OSError("; ".join(f"{url}: {reason}" for url, reason in reasons.items()))


def _may_pass(error: Exception) -> bool:
    """Return whether the same question may have another answer in a few seconds."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, (socket.gaierror, ConnectionRefusedError)):  # offline, or nobody there
        return False
    return isinstance(cause, (TimeoutError, ConnectionError, http.client.HTTPException, _EndedEarlyError))


class _EndedEarlyError(OSError):
    """A connection that was closed before the end of the content."""


def _downloaded(name: str, url: str, size: int, packed: bool) -> bytearray:
    """Read the file at `url`, unpacked if it is `packed`, up to one byte more than `size`."""
    unpack = zlib.decompressobj(wbits=31)  # gzip
    content = bytearray()
    with (
        urllib.request.urlopen(url, timeout=_SECONDS) as answer,
        tqdm(
            total=answer.length, desc=name, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
        ) as bar,
    ):
        # not beyond the end of the gzip data: what follows is not wanted, and may not end
        while not unpack.eof and len(content) <= size and (block := answer.read(_BLOCK)):
            content += unpack.decompress(block, size + 1 - len(content)) if packed else block
            bar.update(len(block))
        if len(content) <= size and (not unpack.eof if packed else answer.length):
            raise _EndedEarlyError("it ended early")
    return content
