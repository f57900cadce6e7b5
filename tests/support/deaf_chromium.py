#!/usr/bin/env -S python3 -I
"""Chromium that does not hear of networks: tests next door make and remove them, and it would drop what it is loading.

A program of its own (the browser's ``executable_path``): the kernel is told to refuse it sockets of netlink. Chromium then takes
the network for one that is always there, as it does where a sandbox keeps these sockets from it.
"""

from __future__ import annotations

import ctypes
import os
import sys

CHROMIUM = "/usr/bin/chromium"
SOCKET = {"x86_64": 41, "aarch64": 198}
"""Number of the system call."""
NETLINK, REFUSED = 16, 1
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
"""Where the kernel's description of a call has them, in bytes."""
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


class Step(ctypes.Structure):
    """One step of a filter (``linux/filter.h``)."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    """A filter."""

    _fields_ = (("steps", ctypes.c_uint16), ("first", ctypes.POINTER(Step)))


def refuse_netlink() -> None:
    """Let no program that this process becomes or starts open a socket of netlink."""
    steps = (
        Step(LOAD, 0, 0, NUMBER),
        Step(EQUAL, 0, 3, SOCKET[os.uname().machine]),
        Step(LOAD, 0, 0, FIRST_ARGUMENT),
        Step(EQUAL, 0, 1, NETLINK),
        Step(RETURN, 0, 0, ERRNO | REFUSED),
        Step(RETURN, 0, 0, ALLOW),
    )
    program = Program(len(steps), (Step * len(steps))(*steps))
    control = ctypes.CDLL(None, use_errno=True).prctl
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if control(*words) != 0:
            sys.stderr.write(f"Chromium hears of networks: {os.strerror(ctypes.get_errno())}\n")
            return


if __name__ == "__main__":
    if os.uname().machine in SOCKET:
        refuse_netlink()
    os.execv(CHROMIUM, [CHROMIUM, *sys.argv[1:]])  # noqa: S606
