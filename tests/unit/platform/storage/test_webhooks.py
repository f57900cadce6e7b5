"""Webhooks at a real server: the signature, what is no webhook, and addresses that only this machine can reach."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import socket
import ssl
import stat

import pytest

from cupola.exceptions import InputError, NotAllowedError, UnavailableError
from cupola.platform.storage.webhooks import Hook, HookStore, WebhookCaller
from support.fronts import self_signed
from support.mailbox import hooks

pytestmark = pytest.mark.asyncio

HERE = ("127.0.0.1",)


@pytest.fixture
def server():
    with hooks() as made:
        yield made


@pytest.fixture
def names(monkeypatch):
    """Let names lead where a test says, and count how often each is looked up."""
    real, known, asked = socket.getaddrinfo, {}, []

    def look(host, port, *args, **more):
        name = host.decode() if isinstance(host, bytes) else host
        if name not in known:
            return real(host, port, *args, **more)
        asked.append(name)
        answers = known[name]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    known["asked"] = asked
    return known


async def test_what_it_gets_is_json_with_a_signature_as_github_makes_it(server):
    hook = Hook(address=server.address + "?token=x#part", secret="key of ada")
    await WebhookCaller(HERE).call(hook, {"text": "ndvi: all 3 inputs done"}, "cupola-job-1-1")
    [(path, headers, body, content)] = server.requests
    assert path == "/hook?token=x"
    assert content == {"text": "ndvi: all 3 inputs done"}
    expected = hmac.new(b"key of ada", body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={expected}"
    assert headers["Idempotency-Key"] == "cupola-job-1-1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    await WebhookCaller(HERE).call(Hook(address=server.address), {}, "x")
    assert "X-Hub-Signature-256" not in server.requests[1][1]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "chat",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "https://",
        "http://example.org/x",
        "https://ada:secret@example.org/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://example.org:0/",
    ],
)
async def test_what_is_no_webhook(address):
    with pytest.raises(InputError):
        await WebhookCaller().inspect(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",  # noqa: S104 - never bound to
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fd00::1]",
        "[fe80::1]",
    ],
)
async def test_private_addresses_are_never_called(host, server):
    hook = Hook(address=f"https://{host}:{server.port}/")
    with pytest.raises(NotAllowedError, match=r"notifications\.webhooks\.allow"):
        await WebhookCaller().call(hook, {}, "x")
    with pytest.raises(NotAllowedError):
        await WebhookCaller().inspect(hook.address)
    assert server.requests == []


async def test_one_private_address_among_public_ones_is_enough(names, server):
    names["both.example"] = [["93.184.216.34", "127.0.0.1"]]
    with pytest.raises(NotAllowedError):
        await WebhookCaller().call(Hook(address=f"https://both.example:{server.port}/"), {}, "x")


async def test_a_name_that_changes_its_mind_is_looked_up_once(names, server):
    # Allowed at first; whoever asked again would be led to another machine of this network.
    names["rebinds.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    listener = socket.create_server(("127.0.0.2", server.port))
    hook = Hook(address=f"http://rebinds.example:{server.port}/")
    await WebhookCaller(("rebinds.example", "127.0.0.1")).call(hook, {}, "x")
    assert names["asked"] == ["rebinds.example"]
    assert server.requests[0][1]["Host"] == f"rebinds.example:{server.port}"
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


async def test_the_certificate_is_that_of_the_name(tmp_path, monkeypatch, names):
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names["other.example"] = [["127.0.0.1"]]
    names["localhost"] = [["127.0.0.1"]]
    allow = ("localhost", "other.example")
    with hooks(context) as server:
        ours, other = (Hook(address=f"https://{host}:{server.port}/") for host in allow)
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await WebhookCaller(allow).call(ours, {}, "x")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await WebhookCaller(allow).call(ours, {}, "x")
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await WebhookCaller(allow).call(other, {}, "x")
    assert len(server.requests) == 1


async def test_a_redirect_is_not_followed(server):
    server.answer, server.headers = 307, {"Location": server.address + "/inside"}
    with pytest.raises(NotAllowedError, match="leads elsewhere"):
        await WebhookCaller(HERE).call(Hook(address=server.address), {}, "x")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(404, UnavailableError), (500, UnavailableError), (410, NotAllowedError)]
)
async def test_what_comes_again_and_what_never_will(status, error, server):
    server.answer, server.body = status, b"the secrets of a private server"
    with pytest.raises(error, match=f"HTTP {status}") as told:
        await WebhookCaller(HERE).call(Hook(address=server.address), {}, "x")
    assert "secrets" not in str(told.value)
    assert server.address not in str(told.value)


async def test_an_endless_answer_is_not_read(server):
    server.body = b"x" * 2**22
    await WebhookCaller(HERE).call(Hook(address=server.address), {}, "x")


@pytest.mark.parametrize("drips", [False, True])
async def test_a_server_that_never_answers_is_left(drips):
    gone = asyncio.Event()

    async def answer(reader, writer):
        if drips:
            # Never silent for long, and never done.
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not writer.is_closing():
                writer.write(b"y")
                await asyncio.sleep(0.02)
        await reader.read()
        writer.close()
        gone.set()

    async def silent(reader, writer):
        with contextlib.suppress(OSError):
            await answer(reader, writer)
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UnavailableError, match="took longer"):
        await WebhookCaller(HERE, patience=1).call(Hook(address=f"http://127.0.0.1:{port}/"), {}, "x")
    await asyncio.wait_for(gone.wait(), 30)
    server.close()


async def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match="does not answer"):
        await WebhookCaller(HERE).call(Hook(address=f"http://127.0.0.1:{port}/"), {}, "x")


async def test_the_address_is_kept_in_a_private_file(tmp_path):
    store = HookStore(tmp_path / "secrets" / "webhooks")
    assert store.read("ada") is None
    hook = Hook(address="https://hooks.example.org/T0/B0/xyz", secret="s")
    store.write("ada", hook)
    store.write("../eve", hook)
    assert store.read("ada") == hook
    assert store.read("paul") is None
    files = list((tmp_path / "secrets" / "webhooks").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.write("ada", None)
    assert store.read("ada") is None
    store.write("ada", None)
