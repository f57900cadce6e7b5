"""Paging by cursor: the newest first, stable while rows come and go."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, and_, or_

from cupola.exceptions import InputError

__all__ = ["cursor_after", "newest_first"]


def cursor_after(created: datetime, key: str) -> str:
    """Return the cursor that stands behind the row with these two."""
    return base64.urlsafe_b64encode(f"{created.isoformat()}|{key}".encode()).decode().rstrip("=")


def newest_first(table: Table, query: Select[Any], cursor: str | None, limit: int) -> Select[Any]:
    """Return `query` for one page, and one row more: its presence says that there is a next page.

    Raises
    ------
    InputError
        If `cursor` is none that this API handed out.
    """
    created, key = table.c.created, table.c.id
    if cursor is not None:
        time, last = _read(cursor)
        query = query.where(or_(created < time, and_(created == time, key < last)))
    return query.order_by(created.desc(), key.desc()).limit(limit + 1)


def _read(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        time, _, key = text.partition("|")
        moment = datetime.fromisoformat(time)
    except (ValueError, binascii.Error) as error:
        raise InputError("The cursor is none of ours: use the `next` of the page before.") from error
    if moment.tzinfo is None:
        raise InputError("The cursor is none of ours: use the `next` of the page before.")
    return moment, key
