"""A forked process does its work and ends; it never returns into the code of the one that it was forked from."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["work_and_end"]


def work_and_end(work: Callable[[], None]) -> NoReturn:
    """Do `work` and end this process with its exit code, as Python itself would.

    Parameters
    ----------
    work
        What the process was forked for; ``SystemExit`` of it is its exit code, any other exception is printed.
    """
    status = 1
    try:
        work()
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except BaseException:  # noqa: BLE001 - this is the end of the process: all there is left is to say why
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 - os._exit leaves them out, and libraries rely on them
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
