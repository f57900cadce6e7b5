"""How a kernel is forked while its threads compute.

Part of what a kernel loads (`kernel_side`), so it stands alone. Libraries have handlers that the system's ``fork`` calls first.
OpenBLAS's one waits until its threads have ended, and where another thread computes with them at that moment, it waits for ever,
and the kernel with it (measured: three of five kernels that multiplied matrices). ``_Fork`` is the same without handlers.
The child only pickles; where it meets a lock that somebody held, it hangs and is ended, and nobody else is harmed.
"""

from __future__ import annotations

import collections
import ctypes
import gc
import itertools
import operator
import os
import sys
from typing import Any

__all__ = ["LIBC", "fork"]


def _load(name: str) -> Any:
    """Return a function of the C library, which keeps the interpreter's lock; nothing where there is none."""
    try:
        function = getattr(ctypes.PyDLL(None, use_errno=True), name)
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = ctypes.c_int
    return function


def _step(name: str) -> Any:
    """Return one of the things that Python has to do around a fork."""
    function = ctypes.pythonapi[name]
    function.restype = None
    return function


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_FORK = _load("_Fork") if sys.platform == "linux" else None
_BEFORE, _IN_PARENT, _IN_CHILD = map(
    _step, ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child")
)
_CALL = operator.methodcaller("__call__")


def fork() -> int:
    """Fork this process; return nought in the child.

    Raises
    ------
    OSError
        There is no room for another process.
    """
    if _FORK is None:  # an old C library
        return os.fork()
    enabled = gc.isenabled()
    gc.disable()
    # One expression without any step of the interpreter in it: between the fork and Python's own repairs the child must not
    # offer its lock to threads that it does not have. So iterators of C decide what is called next.
    results, again = itertools.tee(map(_CALL, (_BEFORE, _FORK)))
    steps = map({None: int, 0: _IN_CHILD}.get, results, itertools.repeat(_IN_PARENT))
    collections.deque(map(_CALL, steps), maxlen=0)
    _, pid = again
    if enabled:
        gc.enable()
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(pid)
