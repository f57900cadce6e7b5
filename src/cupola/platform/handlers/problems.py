"""Every error leaves the portal here: as a problem (RFC 9457) for programs, as a page for people."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from cupola.exceptions import CupolaError, NotSignedInError
from cupola.models.base import Problem
from cupola.platform.handlers.headers import SECURITY_HEADERS
from cupola.platform.handlers.signin import start_sign_in

__all__ = ["PROBLEM_RESPONSES", "add_problem_handlers", "problem_of"]

log = structlog.get_logger("cupola.portal")

TYPES = "https://cupola.invalid/problems/"
"""Where the kinds of problems are named; nothing answers there, which the standard allows."""

ErrorPage = Callable[[Request, Problem], Response]

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "The request cannot be done; `detail` says why and what to do.",
        "model": Problem,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
    "5XX": {
        "description": "The platform failed; `detail` says whether trying again helps.",
        "model": Problem,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
}

_CODES = {
    400: "bad-input",
    401: "not-signed-in",
    403: "not-allowed",
    404: "not-found",
    405: "bad-input",
    409: "conflict",
    413: "limit",
    422: "bad-input",
    429: "limit",
    503: "unavailable",
}
"""What errors of the framework are called; its texts are not for people, ours follow."""
_SENTENCES = {
    404: "There is no page or thing at this address: check it, or begin at the first page.",
    405: "This address does not know that method: see the API's description.",
    413: "The request is too large: send less at a time.",
}


def problem_of(error: Exception, request: Request) -> Problem:
    """Return what to tell about `error`; the one table of errors."""
    instance = request.url.path
    if isinstance(error, CupolaError):
        return Problem(
            type=TYPES + error.code,
            title=error.title,
            status=error.status,
            detail=str(error),
            instance=instance,
        )
    if isinstance(error, RequestValidationError):
        detail = _sentence(error.errors())
        return Problem(
            type=TYPES + "bad-input", title="The input is wrong", status=422, detail=detail, instance=instance
        )
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "error")
        detail = _SENTENCES.get(error.status_code, str(error.detail))
        return Problem(
            type=TYPES + code,
            title=str(error.detail),
            status=error.status_code,
            detail=detail,
            instance=instance,
        )
    detail = "Something went wrong on the platform's side: try again, and tell its operator if it stays."
    return Problem(
        type=TYPES + "error", title="Something went wrong", status=500, detail=detail, instance=instance
    )


def add_problem_handlers(app: FastAPI, error_page: ErrorPage | None = None) -> None:
    """Let `app` answer every error by our rules.

    Parameters
    ----------
    app
        The application.
    error_page
        Makes the page for a person; a plain one where nothing is given.
    """
    page = error_page or _plain_page

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error, request)
        if isinstance(error, CupolaError) and problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # What nobody foresaw is logged by the server, with its traceback.
            log.error("request failed", path=request.url.path, detail=str(error))
        # What nobody foresaw is answered outside of the middleware that adds these.
        headers = dict(SECURITY_HEADERS)
        headers.update((error.headers or {}) if isinstance(error, HTTPException) else {})
        if isinstance(error, NotSignedInError):
            headers["WWW-Authenticate"] = 'Bearer realm="cupola"'
            if _navigates(request) and not request.url.path.endswith("/oauth_callback"):
                return start_sign_in(request)
            if request.headers.get("hx-request"):
                # The page is loaded anew, which leads to the sign-in.
                headers["HX-Refresh"] = "true"
        if _wants_page(request):
            reply = _page_of(page, request, problem)
            reply.headers.update(headers)
            return reply
        return JSONResponse(
            problem.model_dump(mode="json", exclude_none=True),
            problem.status,
            headers,
            media_type="application/problem+json",
        )

    for kind in (CupolaError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _page_of(page: ErrorPage, request: Request, problem: Problem) -> Response:
    try:
        return page(request, problem)
    except Exception:
        # Whatever went wrong first must be told all the same.
        log.exception("the page of an error failed", path=request.url.path)
        return _plain_page(request, problem)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and "authorization" not in request.headers


def _navigates(request: Request) -> bool:
    return request.method == "GET" and _wants_page(request) and not request.headers.get("hx-request")


def _sentence(errors: Sequence[Any]) -> str:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    more = f" ({len(errors) - 1} more like it)" if len(errors) > 1 else ""
    return f"`{where}` is wrong: {first['msg']}{more}; see the API's description."


def _plain_page(request: Request, problem: Problem) -> Response:
    del request
    title, detail = html.escape(problem.title), html.escape(problem.detail)
    body = f'<!doctype html><html lang="en"><title>{title}</title><main><h1>{title}</h1><p>{detail}</p></main></html>'
    return HTMLResponse(body, problem.status)
