"""From templates to answers: whole pages, and parts that a page asks for again and again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from cupola.models.person import Person
from cupola.platform.handlers.dependencies import get_factory, login_token
from cupola.platform.handlers.forgery import FIELD, csrf_token
from cupola.platform.handlers.pages import wording
from cupola.platform.handlers.static import STATIC, file_named
from cupola.platform.services.amounts import memory_text, size_text
from cupola.platform.storage.docker.images import in_registry

__all__ = ["STATIC", "answer_part", "page", "part"]

_PLATFORM = Path(__file__).parents[2]

_MARKDOWN = MarkdownIt("commonmark", {"html": False})
"""HTML in a datalab's description is shown, not obeyed."""


def page(
    request: Request,
    template: str,
    *,
    person: Person | None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **content: Any,
) -> HTMLResponse:
    """Return a whole page.

    Parameters
    ----------
    request
        The request that it answers.
    template
        Its file in ``templates``.
    person
        Who is signed in, if anybody.
    status, headers
        Of the answer.
    content
        What the template shows.
    """
    text = _environment().get_template(template).render({**_frame(request, person), **content})
    return HTMLResponse(text, status, dict(headers or {}))


def part(  # noqa: PLR0913 - a part is a page and where it comes from again
    request: Request,
    template: str,
    *,
    person: Person,
    name: str,
    address: str,
    every: str | None,
    **content: Any,
) -> Markup:
    """Return a part of a page that renews itself.

    Parameters
    ----------
    request, template, person, content
        As for `page`.
    name
        The id of its element.
    address
        Where it is asked for again, below the service's prefix.
    every
        How often, such as ``3s``; nothing where it will not change any more.
    """
    frame = _frame(request, person)
    body = _environment().get_template(template).render({**frame, **content})
    digest = hashlib.sha256(f"{every} {body}".encode()).hexdigest()[:16]
    query = "&" if "?" in address else "?"
    wrapper = _environment().get_template("parts/live.html")
    again = f"{frame['base']}{address}{query}seen={digest}"
    return Markup(  # noqa: S704 - a template that escapes made it
        wrapper.render(name=name, again=again, every=every, body=Markup(body), digest=digest)  # noqa: S704
    )


def answer_part(text: Markup, seen: str) -> Response:
    """Return a part, or 204 (leave all as it is) where the browser has seen just this."""
    if seen and f'data-seen="{seen}"' in text:
        return Response(status_code=204)
    return HTMLResponse(text)


def _frame(request: Request, person: Person | None) -> dict[str, Any]:
    """Return what every template may use."""
    factory = get_factory(request)
    login = login_token(request)
    settings = factory.hub_settings
    return {
        "title": factory.config.title,
        "person": person,
        "base": settings.prefix,
        "hub": f"{settings.base_url}hub/",
        "static": functools.partial(_static, settings.prefix),
        "csrf_field": FIELD,
        "csrf": csrf_token(factory, login) if login else "",
        "said": "",
        "local_accounts": any(method.kind == "local" for method in factory.config.sign_in.methods),
    }


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_PLATFORM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        ago=wording.ago,
        clock=wording.clock,
        exact=wording.exact,
        memory=memory_text,
        money=wording.money,
        amount=size_text,
        bytes_of=wording.size,
        size=wording.size,
        soon=wording.soon,
        span=wording.span,
        state_of=wording.state_of,
        in_registry=in_registry,
        session_states=wording.SESSION_STATES,
        job_states=wording.JOB_STATES,
    )
    environment.filters["markdown"] = _markdown
    environment.filters["said"] = wording.Said._make
    # The components, for every template without an import: they need nothing of the page around them.
    environment.globals["ui"] = environment.get_template("ui.html").module
    return environment


def _markdown(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))  # noqa: S704 - the renderer escapes all HTML


def _static(prefix: str, name: str) -> str:
    """Return the address of a static file; it changes with the file, so that browsers may keep it for ever."""
    return f"{prefix}static/{name}?v={_fingerprint(name)}"


@functools.cache
def _fingerprint(name: str) -> str:
    return hashlib.sha256(file_named(name).read_bytes()).hexdigest()[:12]
