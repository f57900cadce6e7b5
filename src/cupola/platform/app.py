"""The portal as a web application."""

from __future__ import annotations

import importlib
import os
import pkgutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, FastAPI

from cupola.platform.background import Background
from cupola.platform.factory import Factory
from cupola.platform.handlers import api, headers, health, internal, pages, problems, signin
from cupola.platform.handlers.dependencies import current_person
from cupola.platform.handlers.static import LastingFiles
from cupola.platform.storage.hub.settings import HubSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

    import httpx

    from cupola.config import Config

__all__ = ["create_app"]

_LARGEST_BODY = 96 * 2**20
"""In bytes; a job's payload (64 MiB, half as much again in base64) is the largest that anybody sends."""

_DESCRIPTION = """Everything that the pages can do.

Sign in with a token of the hub in the header `Authorization: Bearer TOKEN`. Listings come in pages: give the `next` of
one as `cursor` to get the page after it. Errors are `application/problem+json`; the last part of their `type` is stable.
Long work answers 202 and tells its progress as server-sent events.
"""


def create_app(
    config: Config,
    hub_settings: HubSettings | None = None,
    *,
    hub_transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the portal.

    Parameters
    ----------
    config
        The platform's configuration.
    hub_settings
        How to reach the hub; read from the environment where nothing is given.
    hub_transport
        Another way to the hub than the network, for tests.

    Raises
    ------
    StartError
        If the environment is not that of a service of the hub.
    """
    settings = hub_settings or HubSettings.from_environment(os.environ)
    factory = Factory(config, settings, hub_transport=hub_transport)
    root = settings.prefix.rstrip("/")
    app = FastAPI(
        title=f"{config.title} API",
        description=_DESCRIPTION,
        version="1",
        openapi_url=f"{root}/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        max_body_size=_LARGEST_BODY,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.factory = factory
    app.add_middleware(headers.SecurityHeaders)
    problems.add_problem_handlers(app, getattr(pages, "error_page", None))
    _include(app, root)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    factory: Factory = app.state.factory
    try:
        await factory.start()
        async with Background(factory):
            yield
    finally:
        await factory.aclose()


def _include(app: FastAPI, root: str) -> None:
    """Add all handlers. Whoever is not named here as open to everybody is for people who are signed in."""
    signed_in = [Depends(current_person)]
    app.include_router(health.router, prefix=root)
    app.include_router(signin.router, prefix=root)
    app.include_router(internal.router, prefix=f"{root}/internal")
    for router in _routers(api):
        app.include_router(
            router, prefix=f"{root}/api", dependencies=signed_in, responses=problems.PROBLEM_RESPONSES
        )
    for router in _routers(pages):
        app.include_router(router, prefix=root, dependencies=signed_in, include_in_schema=False)
    app.mount(f"{root}/static", LastingFiles(), name="static")


def _routers(package: ModuleType) -> Iterator[APIRouter]:
    """Yield the ``router`` of each module of `package`: a new noun is a new file, and no other change."""
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        router = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "router", None)
        if isinstance(router, APIRouter):
            yield router
