"""One-time sign-in links.

A link's token is known to whoever has the link and to nobody else: the disk holds its SHA-256 only. Using a link
removes its file; of two who try at once one gets the file, because only one unlink succeeds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cupola.hub.files import make_private, read_json, write_private
from cupola.models.base import now

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIFETIME", "Links"]

LIFETIME = timedelta(hours=1)
TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")


class Links:
    """The links of one platform.

    Parameters
    ----------
    folder
        Where they are kept; made when the first link is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, user: str, lifetime: timedelta = LIFETIME) -> str:
        """Make a link for `user` and return its token.

        Raises
        ------
        OSError
            It cannot be kept: the disk is full, or the folder belongs to somebody else.
        """
        make_private(self.folder)
        self._prune()
        token = secrets.token_urlsafe(32)
        content = {"user": user, "expires": (now() + lifetime).isoformat()}
        write_private(self._file(token), json.dumps(content))
        return token

    def peek(self, token: str) -> str | None:
        """Return whom `token` would sign in, without using it up; nothing where it is used, expired or no token."""
        return self._user(self._file(token)) if TOKEN.fullmatch(token) else None

    def use(self, token: str) -> str | None:
        """Use `token` up and return whom it signs in; nothing where it is used, expired or no token."""
        if not TOKEN.fullmatch(token):
            return None
        file = self._file(token)
        user = self._user(file)
        try:
            file.unlink()
        except FileNotFoundError:
            return None  # somebody was quicker
        return user

    def _file(self, token: str) -> Path:
        return self.folder / hashlib.sha256(token.encode()).hexdigest()

    def _user(self, file: Path) -> str | None:
        content = read_json(file)
        try:
            expired = datetime.fromisoformat(content["expires"]) <= now()
        except (KeyError, TypeError, ValueError):
            return None
        user = content.get("user")
        return user if isinstance(user, str) and not expired else None

    def _prune(self) -> None:
        """Remove the files of links that nobody can use any more."""
        for file in self.folder.iterdir():
            if len(file.name) == hashlib.sha256().digest_size * 2 and self._user(file) is None:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
