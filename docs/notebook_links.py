"""Links that open a notebook of `examples/notebooks` in a browser, without an account, from the project's repository."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]


def repository() -> str:
    """Return the address of the repository that pyproject.toml has, or nothing before it has one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"].get("Repository", ""))


def links(name: str, repository: str) -> dict[str, str]:
    """Return the words and addresses of the buttons beside a notebook; of a repository on GitHub alone.

    Raises
    ------
    FileNotFoundError
        If there is no such notebook.
    """
    path = f"examples/notebooks/{name}.ipynb"
    if not (ROOT / path).is_file():
        raise FileNotFoundError(f"no notebook {path}")
    address = urlsplit(repository)
    slug = address.path.strip("/").removesuffix(".git")
    if address.hostname != "github.com" or slug.count("/") != 1:
        return {}
    return {
        "read": f"https://nbviewer.org/github/{slug}/blob/HEAD/{path}",
        "run": f"https://mybinder.org/v2/gh/{slug}/HEAD?labpath={path.replace('/', '%2F')}",
    }
