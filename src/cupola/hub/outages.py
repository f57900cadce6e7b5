"""What the hub says while its database is away.

JupyterHub takes a lookup of the caller that fails in the database for a caller without credentials and answers 403, also
to the first request after the outage, since its one session still holds the dead connection. Portal and sessions would
take that for a person who has signed out, or for a launch that is refused for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyterhub.handlers import BaseHandler
from jupyterhub.handlers.pages import HealthCheckHandler
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import HTTPError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["answer_unavailable", "connected"]


def answer_unavailable(handlers: type[Any] = BaseHandler) -> None:
    """Make all `handlers` of the hub answer 503 while its database does not.

    JupyterHub has no setting for what happens before a request, so its common base class is told.
    """
    usual = handlers.prepare

    async def prepare(self: Any) -> None:
        # Whether the process lives is asked without the database.
        if not isinstance(self, HealthCheckHandler) and not connected(self.db):
            raise HTTPError(503, "The hub's database does not answer: try again in a moment.")
        await usual(self)

    handlers.prepare = prepare


def connected(session: Session) -> bool:
    """Return whether the database answers; a dead connection is given back for a new one first."""
    for _ in range(2):
        try:
            session.execute(select(1))
        except SQLAlchemyError:
            session.rollback()
        else:
            return True
    return False
