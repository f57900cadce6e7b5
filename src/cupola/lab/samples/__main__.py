"""``python -m cupola.lab.samples FOLDER [--small] [--force]``: write the sample archive, with plain progress lines."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from cupola.exceptions import CupolaError
from cupola.lab.samples import make


def main(arguments: list[str] | None = None) -> int:
    """Write the archive and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cupola.lab.samples", description="Write the sample archive."
    )
    parser.add_argument("folder", type=Path, help="where it shall be")
    parser.add_argument("--small", action="store_true", help="small images, for tests")
    parser.add_argument("--force", action="store_true", help="replace a sample archive that is there")
    said = parser.parse_args(arguments)
    # Asked to stop, it clears up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        folder = make(said.folder, small=said.small, force=said.force, progress=_print)
    except CupolaError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"The sample archive is in {folder}", flush=True)  # noqa: T201
    return 0


def _print(what: str, share: float) -> None:
    print(f"{share:4.0%} {what}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
