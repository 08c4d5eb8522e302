"""Files from the net: whole and right, or not there at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from xpdl.storage import write_atomically

_SECONDS = 30  # without an answer
_BLOCK = 1 << 16


def cache_dir() -> Path:
    """Where downloads are kept: ``XPDL_CACHE``, or ``xpdl`` in the user's cache folder."""
    if os.environ.get("XPDL_CACHE"):
        return Path(os.environ["XPDL_CACHE"])
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA", str(Path.home()))
    else:
        root = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(root) / "xpdl"


def has_hash(path: Path, sha256: str) -> bool:
    """Whether the file is there and has the content that it should."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def fetch_gzip(name: str, urls: Sequence[str], path: Path, size: int, sha256: str) -> None:
    """Download a gzip file and keep what it holds as `path`, written atomically and only if it is the right content.

    Parameters
    ----------
    name : str
        For the progress bar, shown where standard error is a terminal.
    urls : sequence of str
        Mirrors, tried in order.
    size, sha256
        Of the uncompressed content; more than `size` bytes are never unpacked.

    Raises
    ------
    OSError
        If no mirror gives the right content; the message says what each did, and no file is left.
    """
    reasons = []
    for url in urls:
        try:
            content = _downloaded(name, url, size)
        except (OSError, http.client.HTTPException, zlib.error) as error:
            reasons.append(f"{url}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
            return
        reasons.append(f"{url}: its content is not what it should be")
    raise OSError("; ".join(reasons))


def _downloaded(name: str, url: str, size: int) -> bytes:
    unpack = zlib.decompressobj(wbits=31)  # gzip
    content = bytearray()
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(
            total=total, desc=name, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False
        ) as bar:
            while block := answer.read(_BLOCK):
                content += unpack.decompress(block, size + 1 - len(content))
                if len(content) > size:
                    break
                bar.update(len(block))
    return bytes(content)
