"""A database that is away is told as such, and found again by the first request after it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from cupola.hub.outages import answer_unavailable, connected

pytestmark = pytest.mark.asyncio


class Broken(Session):
    """Fails as often as it is told, as a session with a dead connection does."""

    failures = 0

    def execute(self, *arguments, **options):
        if self.failures:
            self.failures -= 1
            raise OperationalError("SELECT 1", {}, OSError("the connection was closed"))
        return super().execute(*arguments, **options)


@pytest.fixture
def session():
    with Broken(create_engine("sqlite://")) as made:
        yield made


async def test_a_dead_connection_is_made_anew(session):
    session.failures = 1
    assert connected(session)


async def test_a_transaction_that_failed_does_not_last(session):
    session.failures = 1
    with pytest.raises(OperationalError):
        session.execute(text("SELECT 2"))
    assert connected(session)


async def test_a_database_that_stays_away_is_told(session):
    session.failures = 2
    assert not connected(session)
    assert connected(session)


async def test_requests_are_answered_503_and_then_as_usual(session):
    class Handler(RequestHandler):
        db = session

        async def prepare(self):
            pass

        def get(self):
            self.write({"came": "through"})

    answer_unavailable(Handler)
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/", Handler)]))
    server.add_sockets([socket])
    client = AsyncHTTPClient()
    try:
        session.failures = 2
        refused = await client.fetch(f"http://127.0.0.1:{port}/", raise_error=False)
        assert refused.code == 503
        answered = await client.fetch(f"http://127.0.0.1:{port}/")
        assert json.loads(answered.body) == {"came": "through"}
    finally:
        server.stop()
        await server.close_all_connections()
