"""``xpdl demo``: draw a digit in the browser, and see what a network makes of it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import webbrowser
from pathlib import Path

#: of npm, in the folder in which the command is called
_INSTALLED = Path("node_modules/onnxruntime-web/dist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="file of a network of images (1, 28, 28) (default: one for digits)"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (default: one that is free)"
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="FOLDER",
        help=f"dist of npm's onnxruntime-web, to compute in the browser (default: {_INSTALLED} if it is here; needs the "
        "extra 'onnx'); else drawings are recognised by this command",
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")


def run(args: argparse.Namespace) -> None:
    """Serve the page until ctrl-C."""
    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port must be a number from 0 to 65535, got {args.port}")
    # a web server is of no use to other commands
    server, network = importlib.import_module("xpdl.demo.server"), importlib.import_module("xpdl.demo.network")
    runtime = args.runtime or (_INSTALLED if _INSTALLED.is_dir() else None)
    with server.DemoServer(network.recognizer(args.model), args.port, runtime) as demo:
        place = "in the browser" if "/net.onnx" in demo.files else "here"
        print(f"draw at {demo.url} (recognised {place}; ctrl-C ends it)", flush=True)
        if not args.no_browser:
            webbrowser.open(demo.url)
        with contextlib.suppress(KeyboardInterrupt):
            demo.serve_forever()
