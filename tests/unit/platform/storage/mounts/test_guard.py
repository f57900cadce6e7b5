"""The guard as a real server on the loopback, with a real client and a real store behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress

import httpx
import pytest

from cupola.platform.storage.mounts import guard as module
from cupola.platform.storage.mounts.addresses import AddressRule
from cupola.platform.storage.mounts.guard import Guard

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def serving(answer):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def guarded(*allow, secret="s"):  # noqa: S107 - it opens nothing
    async with (
        serving(Guard(AddressRule(allow), "s").serve) as port,
        httpx.AsyncClient(
            proxy=f"http://volume:{secret}@127.0.0.1:{port}", follow_redirects=True, timeout=30
        ) as client,
    ):
        yield client


def store(heads, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"):
    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    return serve


async def test_what_is_allowed_goes_through_without_the_proof():
    heads = []
    async with serving(store(heads)) as port, guarded("127.0.0.1") as client:
        answer = await client.get(f"http://127.0.0.1:{port}/bucket?x=1")
    assert answer.text == "hello"
    assert heads[0].startswith(b"GET /bucket?x=1 HTTP/1.1\r\n")
    assert b"proxy-authorization" not in heads[0].lower()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_private_addresses_are_not_reached(host):
    heads = []
    async with serving(store(heads)) as port, guarded("somewhere.example.org") as client:
        assert (await client.get(f"http://{host}:{port}/")).status_code in {400, 403}
        with pytest.raises(httpx.ProxyError, match=r"40[03]"):
            await client.get(f"https://{host}:{port}/")
    assert not heads


async def test_a_store_cannot_send_its_reader_on_to_a_private_address():
    inside, outside = [], []
    async with serving(store(inside)) as private:
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{private}/secret\r\nContent-Length: 0\r\n\r\n"
        )
        async with serving(store(outside, moved.encode())) as port, guarded("127.0.0.1/32") as client:
            # The network is allowed, the name `localhost` is not: http goes to named hosts only.
            answer = await client.get(f"http://127.0.0.1:{port}/bucket")
    assert answer.status_code == 403
    assert outside
    assert not inside


async def test_a_name_that_leads_elsewhere_a_moment_later_does_not_get_through(monkeypatch):
    heads = []

    async def resolve(_self, _host, _port):
        # As a name server does that answers the check with one address and the connection with another.
        return ["127.0.0.1"]

    monkeypatch.setattr(module.AddressRule, "resolve", resolve)
    async with serving(store(heads)) as port, guarded() as client:
        with pytest.raises(httpx.ProxyError, match="502"):
            await client.get(f"https://rebound.example.org:{port}/")
    assert not heads
    assert not AddressRule().permits("rebound.example.org", ipaddress.ip_address("127.0.0.1"))


async def test_who_does_not_show_the_proof_is_refused():
    heads = []
    async with serving(store(heads)) as port, guarded("127.0.0.1", secret="other") as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 407
    assert not heads


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\xff\xfe /x HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 70_000,
        b"",
    ],
)
async def test_nonsense_ends_its_own_connection_only(sent):
    heads = []
    async with serving(Guard(AddressRule(("127.0.0.1",)), "s").serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
            assert not answer or answer.startswith(b"HTTP/1.1 4")
        writer.close()
        async with serving(store(heads)) as there:
            client = httpx.AsyncClient(proxy=f"http://volume:s@127.0.0.1:{port}", timeout=30)
            async with client:
                assert (await client.get(f"http://127.0.0.1:{there}/")).text == "hello"
