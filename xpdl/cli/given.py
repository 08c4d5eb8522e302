"""Options that were given, apart from defaults: on the command line, in a file of TOML, or by a run that goes on."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: attributes of a parsed command line that are no options of a run
_NO_OPTIONS = ("run", "command", "debug", "config", "parser")


class Default:
    """The value of an option that was not given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:  # in a help text
        return str(self.value)


def mark_defaults(parser: argparse.ArgumentParser) -> None:
    """Make what `parser` fills in a `Default`; it then belongs to the arguments, for `read_config`."""
    options = vars(parser.parse_args([]))
    parser.set_defaults(**{name: Default(options[name]) for name in options if name not in _NO_OPTIONS}, parser=parser)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, those of ``--config`` among them; the command line wins over the file."""
    own = _given(args)
    return own if args.config is None else {**read_config(args.config, args.parser), **own}


def settle(args: argparse.Namespace, options: Mapping[str, Any]) -> None:
    """Replace each `Default` in `args` by the one in `options`, or else its value."""
    for name, value in list(vars(args).items()):
        plain = value.value if isinstance(value, Default) else value
        setattr(args, name, options.get(name, plain))


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return all options."""
    return {name: value for name, value in vars(args).items() if name not in _NO_OPTIONS}


def long_name(option: str) -> str:
    """Return an option as it is written on the command line."""
    return f"--{option.replace('_', '-')}"


def read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read options from a TOML file, by their long names without the dashes in front.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not TOML, or names what is no option.
    SystemExit
        If a value does not suit its option, as on the command line.
    """
    try:
        # editors on Windows begin a file with a mark of its encoding
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--config {path}: is not a TOML file ({error})") from None
    defaults = {name: value.value for name, value in vars(parser.parse_args([])).items() if isinstance(value, Default)}
    known = {long_name(name)[2:]: value for name, value in defaults.items()}
    tokens: list[str] = []
    for key, value in table.items():
        name = key.replace("_", "-")
        if isinstance(value, dict):
            raise ValueError(
                f"--config {path}: [{key}] is a table, and options stand without one, such as epochs = 5; remove the line"
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ValueError(f"--config {path}: there is no option {key!r}; the nearest is {near!r}")
        tokens += _tokens(f"--config {path}: {key}", name, value, is_flag=isinstance(known[name], bool))
    parser.place = f"--config {path}: "  # type: ignore[attr-defined]
    try:
        return _given(parser.parse_args(tokens))
    finally:
        parser.place = ""  # type: ignore[attr-defined]


def _given(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in options_of(args).items() if not isinstance(value, Default)}


def _tokens(owner: str, name: str, value: Any, *, is_flag: bool) -> list[str]:
    """Return the command line that gives an option of a file."""
    if is_flag:
        if not isinstance(value, bool):
            raise ValueError(f"{owner} must be true or false, got {value!r}")
        return [f"--{name}"] if value else [f"--no-{name}"]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{owner} must be a string or a number, got {value!r}")
    return [f"--{name}={value}"]
