"""The folders of team volumes: all members write in them, whoever made a file."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["let_members_write"]

_ATTRIBUTE = "system.posix_acl_default"
_VERSION = 2
_USER_OBJ, _GROUP_OBJ, _OTHER = 0x01, 0x04, 0x20
_NOBODY = 0xFFFFFFFF
_ALL = 0o7


def let_members_write(folder: Path) -> bool:
    """See to it that what anybody makes in a team's folder can be written by the whole team.

    With a default access list the umask of programs does not count, and of what is made the group is the team's,
    since the folder has the set-group-id bit.

    Parameters
    ----------
    folder
        Its parent belongs to the platform, so that no member can put a link in its place.

    Returns
    -------
    bool
        Whether the file system keeps such lists; where it does not, the umask of the sessions counts.

    Raises
    ------
    UnavailableError
        If the folder is not there or does not let us.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _ATTRIBUTE not in os.listxattr(handle):
                os.setxattr(handle, _ATTRIBUTE, _access_list())
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise UnavailableError(
            f"The folder of the team {folder.name} cannot be set up ({error.strerror or error}): tell an administrator."
        ) from error
    return True


def _access_list() -> bytes:
    """Return the list ``u::rwx g::rwx o::---``, as the kernel takes it: a version, then tag, rights and id of each."""
    entries = [(_USER_OBJ, _ALL), (_GROUP_OBJ, _ALL), (_OTHER, 0)]
    return struct.pack("<I", _VERSION) + b"".join(
        struct.pack("<HHI", tag, allowed, _NOBODY) for tag, allowed in entries
    )
