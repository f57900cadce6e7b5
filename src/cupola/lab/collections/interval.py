"""Spans of time as people write them: ``2020-02``, ``2020-02-01/2020-03-01``, ``../2020-03``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cupola.exceptions import InputError
from cupola.lab.collections.items import parse_time

__all__ = ["Interval", "parse_interval"]

Interval = tuple[datetime | None, datetime | None]
"""From when (included) until when (not included), in UTC; nothing: open."""

_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")


def parse_interval(text: str) -> Interval:
    """Return the span that `text` names; a year, month or day stands for the whole of it.

    Raises
    ------
    InputError
        When it is no such text, or ends before it begins.
    """
    parts = text.strip().split("/")
    if len(parts) == 1:
        return _span(parts[0], text)
    if len(parts) > 2:  # noqa: PLR2004 - from and until
        raise _wrong(text)
    start = None if parts[0].strip() in ("", "..") else _span(parts[0], text)[0]
    end = None if parts[1].strip() in ("", "..") else _span(parts[1], text)[1]
    if start and end and end <= start:
        raise InputError(f"The time span {text!r} ends before it begins; write the earlier time first.")
    return start, end


def _wrong(text: str) -> InputError:
    return InputError(
        f"{text!r} is no time span; write it like '2020-02', '2020-02-01/2020-03-01' or '2020-02-01/..'."
    )


def _span(part: str, text: str) -> tuple[datetime, datetime]:
    part = part.strip()
    match = _DATE.fullmatch(part)
    if match is None:
        moment = parse_time(part)
        if moment is None:
            raise _wrong(text)
        return moment, moment + timedelta(microseconds=1)
    year, month, day = (int(value) if value else None for value in match.groups())
    try:
        start = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
        if day:
            return start, start + timedelta(days=1)
        if month:
            following = (start.year + 1, 1) if month == 12 else (start.year, month + 1)  # noqa: PLR2004
            return start, datetime(*following, 1, tzinfo=UTC)
        return start, datetime(start.year + 1, 1, 1, tzinfo=UTC)
    except ValueError as error:
        raise _wrong(text) from error
