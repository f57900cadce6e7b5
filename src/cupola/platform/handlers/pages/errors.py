"""The page that a person sees when something went wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from fastapi import Request
from fastapi.responses import Response

from cupola.models.base import Problem
from cupola.platform.handlers.pages.render import page

__all__ = ["error_page"]


class _Way(NamedTuple):
    """A way out: what it is called and where it leads, below the service's prefix."""

    label: str
    path: str


_CATALOGUE = _Way("Go to the catalogue", "")
_WAYS = {
    "limit": _Way("See your sessions", "sessions"),
    "unavailable": _Way("Try again", ""),
    "not-signed-in": _Way("Sign in", ""),
}
"""The way out by the problem's code; the catalogue for all others."""


def error_page(request: Request, problem: Problem) -> Response:
    """Return the page that tells `problem`: one sentence with the way out."""
    code = problem.type.rpartition("/")[2]
    here = request.url.path
    return page(
        request,
        "error.html",
        # Who calls may be just what is not known.
        person=None,
        status=problem.status,
        problem=problem,
        way=_WAYS.get(code, _CATALOGUE),
        again=here
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and request.method == "GET"
        else None,
    )
