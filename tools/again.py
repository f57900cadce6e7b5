#!/usr/bin/env python3
"""Run the few tests that failed with others beside them once more, by themselves: python tools/again.py EXIT_CODE.

Three processes of tests share two cores, browsers, a container engine and two schedulers; now and then one of 4,500 tests
waits for minutes there and gives up. What is plainly broken fails by itself too; a rare fault may not, so look at the first failure. See docs/decisions/016.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

MOST = 5
"""Where more have failed, the machine is not the reason."""
ROOT = Path(__file__).resolve().parent.parent
FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
_SOME_FAILED = 1
"""pytest's exit code where all tests were run, and some failed."""


def main(code: int) -> int:
    """Return the exit code of all: that of the first run, or of the second one where there is reason for it."""
    failed = _failed()
    if code != _SOME_FAILED or not 0 < len(failed) <= MOST:
        return code
    print(f"\n{len(failed)} failed with others beside; once more by themselves:", flush=True)
    print(*(f"  {name}" for name in failed), sep="\n", flush=True)
    # The figures of the first run stay as they are.
    environment = {**os.environ, "CUPOLA_MATRIX": str(FAILED.parent / "matrix.json")}
    command = [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _failed() -> list[str]:
    try:
        return sorted(json.loads(FAILED.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
