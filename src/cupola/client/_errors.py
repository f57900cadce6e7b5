"""From what the portal or the network says to an error of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from cupola.exceptions import (
    CupolaError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    UnavailableError,
    error_class,
)
from cupola.models.base import Problem

if TYPE_CHECKING:
    import httpx

__all__ = ["error_of"]

_BY_STATUS: dict[int, type[CupolaError]] = {401: NotSignedInError, 403: NotAllowedError, 404: NotFoundError}
"""For answers that are no problem document: the proxy's and the hub's."""


def error_of(answer: httpx.Response) -> CupolaError:
    """Return the error that an unsuccessful, fully read answer stands for."""
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        kind = UnavailableError if answer.is_server_error else _BY_STATUS.get(answer.status_code, CupolaError)
        where = f"{answer.request.method} {answer.request.url.path}"
        return kind(f"{where} was answered with HTTP {answer.status_code}: {answer.text[:200].strip()}")
    return error_class(problem.type.rsplit("/", 1)[-1])(problem.detail)
