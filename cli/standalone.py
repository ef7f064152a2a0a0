"""`podstrap standalone`: the embedded ClearML-compatible server and its page, until stopped."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data lies and where to listen."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the database and the files")
    parser.add_argument("--api-port", type=_port, default=8008, metavar="N", help="0: any free port (default: 8008)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.epilog = (
        "Access and secret key: CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY when set, else made once and kept "
        "in DIR. Prints what a client must export."
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop."""
    from standalone.serve import ServeSettings, serve

    return serve(
        ServeSettings(
            data=options.data,
            host=options.host,
            api_port=options.api_port,
            access_key=os.environ.get("CLEARML_API_ACCESS_KEY", ""),
            secret_key=os.environ.get("CLEARML_API_SECRET_KEY", ""),
        )
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port (0 to 65535)")
    return number
