"""Ends what somebody has here who may not be in any more: logins, tokens, servers, the user itself; the files stay.

It looks every few seconds whether the allow-list or the list of people changed, and at everybody now and then. What it
does can be done twice: whatever fails, or is cut off by an end of the hub, is done at the next look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from jupyterhub import orm, roles
from jupyterhub.utils import maybe_future

from cupola.hub.signin.admission import Standing

if TYPE_CHECKING:
    from jupyterhub.user import User

    from cupola.hub.signin.authenticator import SignInAuthenticator

__all__ = ["Guard"]

log = logging.getLogger("JupyterHub.sign-in")

PERIOD_S = 3.0
_EVERYBODY_S = 60.0
"""So often all are looked at, whether anything changed or not: rules run out by time alone."""
_STOP_S = 40.0
"""A server gets so long to stop before the next look goes on without it."""


class Guard:
    """Watches over one hub.

    Parameters
    ----------
    app
        The hub.
    authenticator
        Knows who may be in.
    """

    def __init__(self, app: Any, authenticator: SignInAuthenticator) -> None:
        self._app = app
        self._authenticator = authenticator
        self._seen: tuple[object, ...] = ()
        self._looked = 0.0
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._told = ""

    def start(self) -> None:
        """Begin to look, for as long as the hub runs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("could not look who may be in")
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """End what must end, if anything changed since the last look."""
        if getattr(self._app, "http_server", None) is None:
            return  # the hub is still finding out which servers run: what it does not know it could not stop
        admission = self._authenticator.admission
        admission.list.refresh()
        if admission.list.problem and admission.list.problem != self._told:
            log.error("the last good allow-list stays in force: %s", admission.list.problem)
        self._told = admission.list.problem
        seen = self._signature()
        if seen == self._seen and time.monotonic() - self._looked < _EVERYBODY_S and not self._ending:
            return
        await self._look_at_everybody()
        self._seen, self._looked = seen, time.monotonic()

    def _signature(self) -> tuple[object, ...]:
        admission = self._authenticator.admission
        try:
            found = admission.people.file.stat()
            file: tuple[int, ...] = (found.st_mtime_ns, found.st_size)
        except OSError:
            file = ()
        newest = self._app.db.query(orm.User.id).order_by(orm.User.id.desc()).first()
        return (id(admission.list.current), file, newest)

    async def _look_at_everybody(self) -> None:
        admission = self._authenticator.admission
        everybody = {known.name: known for known in admission.people.everybody()}
        for orm_user in self._app.db.query(orm.User).all():
            known = everybody.get(orm_user.name)
            user = self._app.users[orm_user]
            if admission.standing(known) is Standing.OUTSIDE:
                self._end(user)
            elif known is not None and admission.admin(known) != user.admin:
                user.admin = admission.admin(known)
                roles.assign_default_roles(self._app.db, entity=user.orm_user)
                self._app.db.commit()
                log.warning("%s is %s administrator", user.name, "an" if user.admin else "no longer an")
        self._discard_accounts(set(everybody))

    def _discard_accounts(self, names: set[str]) -> None:
        """Remove the passwords of accounts that were asked for and refused: the names are free again."""
        local = self._authenticator.local
        if local is None:
            return
        waiting = {each.name for each in self._authenticator.admission.people.requests()}
        for name in local.names() - names - waiting:
            local.discard(name)

    def _end(self, user: User) -> None:
        """Take away at once what opens anything, and stop the servers beside."""
        name = user.name
        if name in self._ending:
            return
        revoke(self._app.db, user)
        log.warning("the access of %s has ended", name)
        task = asyncio.get_running_loop().create_task(self._stop_and_delete(user))
        self._ending[name] = task
        task.add_done_callback(lambda _: self._ending.pop(name, None))

    async def _stop_and_delete(self, user: User) -> None:
        try:
            names = [name for name, spawner in user.spawners.items() if spawner.active]
            await asyncio.gather(*(self._stop(user, name) for name in names))
            if any(spawner.active for spawner in user.spawners.values()):
                return  # the next look tries again
            known = self._authenticator.admission.people.find(user.name)
            if self._authenticator.admission.standing(known) is Standing.OUTSIDE:
                await maybe_future(self._authenticator.delete_user(user))
                await user.delete_spawners()
                self._app.users.delete(user)
        except Exception:
            log.exception("the access of %s could not be ended as a whole; it is tried again", user.name)
        finally:
            self._seen = ()

    async def _stop(self, user: User, name: str) -> None:
        spawner = user.spawners[name]
        async with asyncio.timeout(_STOP_S):
            stopping = getattr(spawner, "_stop_future", None)  # there from the first stop on
            if stopping is not None:
                await asyncio.wait([stopping])  # somebody stops it already
                return
            if spawner.pending == "spawn" and spawner._spawn_future is not None:  # noqa: SLF001
                # What is just starting is stopped when it runs; its start cannot be called back.
                await asyncio.wait([spawner._spawn_future])  # noqa: SLF001
            spawner._stop_pending = True  # noqa: SLF001 - as the hub itself does it
            try:
                await self._app.proxy.delete_user(user, name)
                await user.stop(name)
            finally:
                spawner._stop_pending = False  # noqa: SLF001


def revoke(db: Any, user: User) -> None:
    """End all logins and tokens of somebody."""
    orm_user = user.orm_user
    orm_user.cookie_id = orm.new_token()
    if orm_user.admin:
        orm_user.admin = False
        roles.assign_default_roles(db, entity=orm_user)
    for token in list(orm_user.api_tokens):
        db.delete(token)
    for code in db.query(orm.OAuthCode).filter(orm.OAuthCode.user_id == orm_user.id):
        db.delete(code)
    db.commit()
