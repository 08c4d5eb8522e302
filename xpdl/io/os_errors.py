"""Errors of the operating system, in words."""

from __future__ import annotations

import errno

_CURES = {
    errno.ENOSPC: "free some space there, or choose another folder",
    errno.EDQUOT: "free some space there, or choose another folder",
    errno.EACCES: "choose another folder, or change its permissions",
    errno.EROFS: "choose another folder",
}


def in_words(error: BaseException) -> str:
    """Return the message of `error` in one line, without the number that the system has for it."""
    if isinstance(reason := getattr(error, "reason", None), OSError):  # of an address that cannot be opened
        error = reason
    if isinstance(error, OSError) and error.strerror and isinstance(error.errno, int):
        places = [str(name) for name in (error.filename, error.filename2) if name is not None]
        cure = f"; {_CURES[error.errno]}" if error.errno in _CURES else ""
        return f"{': '.join([error.strerror, ' -> '.join(places)] if places else [error.strerror])}{cure}"
    return " ".join(str(error).split())
