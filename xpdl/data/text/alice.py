"""A book to train on, which is in the package."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources

#: of the text
_SHA256 = "69d41fa1230830b30a6e58d53f2604facbd3573a6c0532abc8b1cffd7c504c09"


def load_alice() -> str:
    """Load *Alice's Adventures in Wonderland* by Lewis Carroll, which comes with the package and is in the public domain.

    Returns
    -------
    str
        148,426 characters, 70 different ones, all ASCII; lines of at most 72 characters that end in a newline.

    Raises
    ------
    ValueError
        If the installed file is damaged.

    Examples
    --------
    >>> text = load_alice()
    >>> len(text), text.split()[:3]
    (148426, ["ALICE'S", 'ADVENTURES', 'IN'])
    """
    path = resources.files("xpdl.data.text") / "alice.txt.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error):
        content = b""
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(f"{path}: is damaged; install xpdl again")
    return content.decode("ascii")
