"""The files that containers see as ``/etc/passwd`` and ``/etc/group``: programs want names for numbers."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError
from cupola.models.containers import HOMES_INSIDE

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.containers import Account

__all__ = ["write_accounts"]


def write_accounts(passwd_file: Path, group_file: Path, person: str, account: Account) -> None:
    """Write both files of a person, where they differ from what is there.

    Parameters
    ----------
    passwd_file, group_file
        Where they lie.
    person, account
        Whose they are, and the person's numbers.

    Raises
    ------
    UnavailableError
        If they cannot be written: the disk is full, for instance.
    """
    passwd = (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"{person}:x:{account.user}:{account.group}:{person}:{HOMES_INSIDE}/{person}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    groups = {"root": 0, person: account.group, "nogroup": 65534}
    # A team may be named like a person: its number counts, and each name may be there once.
    others = {(f"team-{team}" if team in groups else team): number for team, number in account.groups.items()}
    lines = [f"{name}:x:{number}:" for name, number in groups.items()]
    lines += [f"{name}:x:{number}:{person}" for name, number in others.items()]
    try:
        passwd_file.parent.mkdir(parents=True, exist_ok=True)
        _write(passwd_file, passwd)
        _write(group_file, "\n".join([*lines, ""]))
    except OSError as error:
        raise UnavailableError(
            f"The files in {passwd_file.parent} cannot be written ({error.strerror}): make room, then try again."
        ) from error


def _write(file: Path, content: str) -> None:
    """Write a file that everybody may read; containers that have the old one keep it."""
    with contextlib.suppress(OSError):
        if file.read_text(encoding="utf-8") == content:
            return
    aside = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    try:
        with aside.open("x", encoding="utf-8") as out:
            out.write(content)
            os.fchmod(out.fileno(), 0o644)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
