"""Accounts of this platform: nativeauthenticator keeps the passwords, and an administrator approves each account."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import bcrypt
from nativeauthenticator import NativeAuthenticator
from nativeauthenticator.orm import UserInfo

from cupola.exceptions import ConflictError, InputError, LimitError
from cupola.hub.signin.admission import Proof
from cupola.hub.signin.names import Identity, folded, is_name
from cupola.hub.signin.throttle import Throttle

if TYPE_CHECKING:
    from jupyterhub.handlers.base import BaseHandler
    from sqlalchemy.orm import Session

    from cupola.config import MethodSettings

__all__ = ["LocalMethod"]

MOST_BYTES = 72
"""bcrypt looks at no more of a password."""
_MOST_AT_ONCE = 20
"""Passwords being looked at; each takes a quarter of a second of a core."""


class LocalMethod:
    """Names and passwords of this platform.

    Parameters
    ----------
    settings
        Of the method.
    session
        Of the hub's database, where nativeauthenticator has its table.
    """

    def __init__(self, settings: MethodSettings, session: Session) -> None:
        self.settings = settings
        # Its own word on who is approved is not asked for: that is decided in one place for all methods.
        self.accounts = NativeAuthenticator(
            db=session,
            open_signup=True,
            minimum_password_length=settings.password_length,
            check_common_password=True,
        )
        self.by_name = Throttle()
        self.by_address = Throttle(free=30)
        self.sign_ups = Throttle(free=10, first_s=60.0)
        self._threads = ThreadPoolExecutor(1, "password")
        self._running = 0
        self._nobody = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt())

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:
        """Find out whose password came.

        Raises
        ------
        LimitError
            There were too many tries.
        """
        name, password = folded(data.get("username", "").strip()), data.get("password", "")
        keys = ((self.by_name, name[:80]), (self.by_address, str(handler.request.remote_ip)))
        wait = max(throttle.wait(key) for throttle, key in keys)
        if wait:
            raise LimitError(f"There were too many tries: wait {int(wait) + 1} seconds, then try again.")
        account = self.accounts.get_user(name) if is_name(name) else None
        # Whoever has no account takes as long as whoever has one.
        stored = account.password if account is not None else self._nobody
        right = await self._matches(password, stored)
        if account is None or not right:
            for throttle, key in keys:
                throttle.failed(key)
            return None
        self.by_name.succeeded(name)
        return Proof(self.identity(name))

    def identity(self, name: str) -> Identity:
        """Return who the account `name` is."""
        return Identity(self.settings.known_as, "", name, name)

    async def _matches(self, password: str, stored: bytes) -> bool:
        """Compare in a thread: the hub has one, which all people share."""
        content = password.encode("utf-8", "surrogatepass")
        if not content or len(content) > MOST_BYTES:
            return False
        return bool(await self._in_thread(bcrypt.checkpw, content, stored))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        if self._running >= _MOST_AT_ONCE:
            raise LimitError("Many people sign in just now: wait a moment, then try again.")
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._running -= 1

    def has(self, name: str) -> bool:
        """Tell whether there is an account `name`."""
        return is_name(name) and self.accounts.get_user(name) is not None

    async def create(self, name: str, password: str) -> None:
        """Make an account.

        Raises
        ------
        InputError
            The name or the password will not do.
        ConflictError
            The name is taken.
        """
        if not is_name(name):
            raise InputError(
                "This cannot be a user name: take small letters, digits, dots, hyphens and underscores, at most 64."
            )
        hashed = await self._hash(name, password)
        if self.has(name):
            raise ConflictError(f'The name "{name}" is taken: choose another one.')
        self.accounts.db.add(UserInfo(username=name, password=hashed, is_authorized=True))
        self.accounts.db.commit()

    async def change_password(self, name: str, old: str | None, new: str) -> None:
        """Give the account `name` another password, or its first one.

        Parameters
        ----------
        name
            Who is signed in.
        old
            The password until now; looked at where there is an account.
        new
            The new one.

        Raises
        ------
        InputError
            The old password is wrong, or the new one will not do.
        LimitError
            There were too many tries.
        """
        account = self.accounts.get_user(name)
        if account is not None:
            if wait := self.by_name.wait(name):
                raise LimitError(f"There were too many tries: wait {int(wait) + 1} seconds, then try again.")
            if not await self._matches(old or "", account.password):
                self.by_name.failed(name)
                raise InputError("This is not your password until now: type it once more.")
            hashed = await self._hash(name, new)
            account.password = hashed
            self.accounts.db.commit()
        else:
            await self.create(name, new)

    async def _hash(self, name: str, password: str) -> bytes:
        shortest = self.settings.password_length
        if len(password) < shortest:
            raise InputError(f"This password is too short: take at least {shortest} characters.")
        if len(password.encode("utf-8", "surrogatepass")) > MOST_BYTES:
            raise InputError(f"This password is too long: take at most {MOST_BYTES} letters.")
        if self.accounts.is_password_common(password) or folded(password) == name or len(set(password)) < 4:  # noqa: PLR2004
            raise InputError("This password is one that is guessed first: take another one.")
        content = password.encode("utf-8", "surrogatepass")
        hashed: bytes = await self._in_thread(bcrypt.hashpw, content, bcrypt.gensalt())
        return hashed

    def discard(self, name: str) -> None:
        """Remove the account `name`, if there is one: its password is worth nothing any more."""
        account = self.accounts.get_user(name)
        if account is not None:
            self.accounts.db.delete(account)
            self.accounts.db.commit()

    def names(self) -> set[str]:
        """Return the names of all accounts."""
        return {account.username for account in UserInfo.all_users(self.accounts.db)}
