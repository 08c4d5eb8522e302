"""Make the text in the package: ``python scripts/make_alice.py alice29.txt``, of the Canterbury corpus.

The source distribution of ``brotli`` on PyPI has that file under ``tests/testdata``. Prints the hash that
xpdl/data/text/alice.py keeps, of the text: how small it gets depends on zlib.
"""

import gzip
import hashlib
import sys
from pathlib import Path

SOURCE_SHA256 = "7467306ee0feed4971260f3c87421154a05be571d944e9cb021a5713700c38f0"


def source(path: str) -> bytes:
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{path}: is not alice29.txt of the Canterbury corpus")
    return content


def cleaned(content: bytes) -> str:
    """The book's text without the name of the edition, with lines that end in a newline and in no blanks."""
    lines = [line.rstrip() for line in content.decode("ascii").rstrip("\x1a").splitlines()]
    lines = [line for line in lines if "FULCRUM EDITION" not in line]
    return "\n".join(lines).strip("\n") + "\n"


def main() -> None:
    text = cleaned(source(sys.argv[1])).encode()
    path = Path(__file__).parents[1] / "xpdl" / "data" / "text" / "alice.txt.gz"
    path.write_bytes(gzip.compress(text, mtime=0))
    print(f"{len(text)} characters, SHA-256 {hashlib.sha256(text).hexdigest()}; {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
