"""Review what xpdl is installed with, offline: ``python scripts/review_dependencies.py``, in an environment that has it.

For each package that it requires, and for those of the extra `compiled`, a row: whether the version is that of
`.ci/requirements.lock`, its licence, whether it has compiled code, and whether its files still have the hashes that its
wheel came with. Exits with 1 where a version or a file is another one. It knows of no advisories; where their service can be
reached, these are looked up by

    pip-audit --disable-pip --require-hashes -r .ci/requirements.lock

The lock is made by

    uv pip compile pyproject.toml --extra dev --extra compiled --generate-hashes -c .ci/constraints.txt \
        --python-version 3.11 --no-annotate --no-header -o .ci/requirements.lock
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def locked(name: str = "requirements.lock") -> dict[str, tuple[str, list[str]]]:
    """Name -> (version, hashes) of each package in a lock of `.ci`."""
    text = (ROOT / ".ci" / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        name, version, *hashes = re.split(r"==|\s+--hash=", line.strip())
        found[name] = (version.strip(), hashes)
    return found


def required() -> list[str]:
    """Packages that are installed with xpdl."""
    needs = importlib.metadata.requires("xpdl") or []
    return [_name(need) for need in needs if "extra ==" not in need]


def compiler() -> list[str]:
    """Further packages of ``xpdl[compiled]``, if installed: they generate machine code."""
    needs = importlib.metadata.requires("xpdl") or []
    found = [_name(need) for need in needs if re.search(r"extra == .compiled", need)]
    try:
        needs = [need for name in found for need in importlib.metadata.requires(name) or [] if "extra ==" not in need]
    except importlib.metadata.PackageNotFoundError:
        return []
    return [*found, *(name for name in map(_name, needs) if name not in required())]


def _name(need: str) -> str:
    found = re.match(r"[\w.-]+", need)
    assert found, need
    return found.group()


def changed_files(name: str) -> list[str]:
    """Files of an installed package that are missing or have another hash than its record says."""
    changed = []
    for file in importlib.metadata.files(name) or []:
        if file.hash is None:  # the record itself, and what was compiled here
            continue
        path = Path(str(file.locate()))
        digest = hashlib.new(file.hash.mode, path.read_bytes()).digest() if path.is_file() else b""
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            changed.append(str(file))
    return changed


def main() -> int:
    lock, bad = locked(), 0
    print("| package | installed | locked | licence | compiled | files |\n|---|---|---|---|---|---|")
    for name in (*required(), *compiler()):
        about = importlib.metadata.metadata(name)
        licence = (about.get("License-Expression") or about.get("License") or "?").splitlines()[0][:40]
        compiled = any(file.suffix in (".so", ".pyd") for file in importlib.metadata.files(name) or [])
        version, changed = importlib.metadata.version(name), changed_files(name)
        wanted = lock.get(name, ("none", []))[0]
        bad += version != wanted or bool(changed)
        state = f"changed: {', '.join(changed[:3])}" if changed else "as they came"
        print(f"| {name} | {version} | {wanted} | {licence} | {'yes' if compiled else 'no'} | {state} |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
