from __future__ import annotations

import contextlib
import json
import sys

import httpx
import pytest
from starlette.routing import Mount, Route

from cupola.config import Config
from cupola.hub.mounts import clear_mounts
from cupola.platform.app import create_app
from cupola.platform.storage.hub.settings import HubSettings
from support.fake_hub import ACCESS, PREFIX, FakeHub
from support.threads import sqlite_threads_end

DIGEST = "sha256:" + "a1" * 32
INTERNAL = "internal-token"
ROUTES = []
"""The handlers as the first portal of a run included them. To look at all their arguments takes longer than most tests."""


@pytest.fixture
def settings():
    return HubSettings.from_environment(
        {
            "JUPYTERHUB_API_URL": "http://hub/hub/api",
            "JUPYTERHUB_API_TOKEN": "portal-token",
            "CUPOLA_INTERNAL_TOKEN": INTERNAL,
            "JUPYTERHUB_CLIENT_ID": "service-cupola",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:8001",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(["access:services", ACCESS]),
        }
    )


@pytest.fixture
def hub():
    return FakeHub()


@pytest.fixture
def config(tmp_path):
    archive = tmp_path / "mars"
    archive.mkdir()
    config = Config.model_validate(
        {
            "state": str(tmp_path / "state"),
            "owner": "maria",
            "profile": {"sessions": 3, "cores": 2, "memory_mib": 4096},
            "volumes": [{"name": "mars-archive", "title": "Mars archive", "path": str(archive)}],
        }
    )
    add_version(config, DIGEST)
    return config


def add_version(config, digest, created="2026-11-01T00:00:00Z"):
    """Put a version of the Lab where the real environments lie; its interpreter is the one of the tests."""
    place = config.paths.environments / "lab" / digest.removeprefix("sha256:")[:12]
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    version = {"digest": digest, "label": created[:7], "created": created, "ready": True}
    (place / "version.json").write_text(json.dumps(version))


def share_handlers(app):
    """Let a portal take the handlers that the first one included; what is bound to an application stays its own."""
    ROUTES[:] = ROUTES or app.router.routes
    assert len(ROUTES) == len(app.router.routes)
    app.router.routes[:] = [
        own if isinstance(own, (Route, Mount)) else shared
        for own, shared in zip(app.router.routes, ROUTES, strict=True)
    ]


@pytest.fixture
def open_portal(config, settings, hub):
    """Open the real application on the fake hub, also more than once on one state."""

    @contextlib.asynccontextmanager
    async def opened():
        app = create_app(config, settings, hub_transport=hub.transport())
        share_handlers(app)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://cupola.test" + PREFIX
            ) as client:
                client.app = app
                yield client
        await sqlite_threads_end()
        # They outlive a portal on purpose: `cupola down` ends them.
        clear_mounts(config.paths, lambda _: None)

    return opened


@pytest.fixture
def maria():
    return {"Authorization": "token token-of-maria"}
