"""Mail to a real mail server: encryption, sign-in, what it refuses, and servers that never answer."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from cupola.config import MailSettings
from cupola.exceptions import ConfigError, InputError, NotAllowedError, UnavailableError
from cupola.models.base import now
from cupola.platform.storage.mail import Letter, Mailer, as_address
from support.fronts import self_signed
from support.mailbox import mailbox

pytestmark = pytest.mark.asyncio

ADA = "ada@example.org"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("mail"))


@pytest.fixture
def server_side(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def settings(box, **more):
    about = {"host": "localhost", "port": box.port, "tls": "none", "sender": "cupola@example.org"}
    return MailSettings.model_validate(about | more)


def letter(**more):
    about = {
        "to": ADA,
        "subject": "ndvi: 3 of 200 inputs failed",
        "lines": ["ndvi: 3 of 200 inputs failed.", "It took 12 min <on> local."],
        "link": "https://cupola.example.org/services/cupola/jobs/job-1?a=1&b=2",
        "link_text": "Open the job",
        "id": "cupola-job-1-1",
        "time": now(),
    }
    return Letter(**about | more)


async def test_a_message_is_text_and_small_html_with_the_link():
    async with mailbox() as box:
        await Mailer(settings(box), "Cupola").send(letter())
    [message] = box.messages
    assert box.envelopes[0].mail_from == "cupola@example.org"
    assert box.envelopes[0].rcpt_tos == [ADA]
    assert message["subject"] == "ndvi: 3 of 200 inputs failed"
    assert message["from"] == "Cupola <cupola@example.org>"
    assert message["message-id"] == "<cupola-job-1-1@example.org>"
    assert message["auto-submitted"] == "auto-generated"
    text, html = (message.get_body([kind]).get_content() for kind in ("plain", "html"))
    assert "It took 12 min <on> local." in text
    assert "jobs/job-1?a=1&b=2" in text
    assert "It took 12 min &lt;on&gt; local." in html
    assert 'href="https://cupola.example.org/services/cupola/jobs/job-1?a=1&amp;b=2"' in html
    assert "<img" not in html


@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_encrypted_with_sign_in(way, server_side, certificate, tmp_path):
    (tmp_path / "password").write_text("secret word\n")
    about = {"tls": way, "user": "cupola", "password_file": tmp_path / "password"}
    async with mailbox(tls=server_side, implicit=way == "implicit", user=("cupola", "secret word")) as box:
        with pytest.raises(UnavailableError, match="cannot be trusted"):
            await Mailer(settings(box, **about), "Cupola").send(letter())
        assert box.tried == []
        trusting = settings(box, **about, certificates=certificate[0])
        await Mailer(trusting, "Cupola").send(letter())
        (tmp_path / "password").write_text("wrong")
        with pytest.raises(UnavailableError, match="does not accept the platform's password") as refused:
            await Mailer(trusting, "Cupola").send(letter())
        assert "wrong" not in str(refused.value)
        (tmp_path / "password").write_text("säcret")
        with pytest.raises(ConfigError, match="cannot carry"):
            await Mailer(trusting, "Cupola").send(letter())
        (tmp_path / "password").unlink()
        with pytest.raises(ConfigError, match="password_file"):
            await Mailer(trusting, "Cupola").send(letter())
    assert len(box.messages) == 1


async def test_without_encryption_nothing_is_said_where_it_is_asked_for():
    async with mailbox() as box:
        with pytest.raises(UnavailableError, match="does not offer"):
            await Mailer(settings(box, tls="starttls"), "Cupola").send(letter())
    assert box.messages == []


async def test_a_name_writes_no_headers():
    evil = "x\r\nBcc: eve@example.org\r\n\r\nHello\u2028\x00"
    async with mailbox() as box:
        await Mailer(settings(box), evil).send(letter(subject=evil, lines=[evil], id=evil))
        with pytest.raises(InputError):
            await Mailer(settings(box), "Cupola").send(letter(to="ada@example.org\r\nBcc: eve@example.org"))
    [message] = box.messages
    assert message["bcc"] is None
    assert message["subject"] == "x Bcc: eve@example.org Hello"
    assert box.envelopes[0].rcpt_tos == [ADA]


@pytest.mark.parametrize(
    "text",
    ["", "ada", "a@b@c", "ada@", "a b@example.org", "ada@exa..mple.org", "ada@[127.0.0.1]", "<ada@x.org>"],
)
async def test_what_is_no_address(text):
    with pytest.raises(InputError):
        as_address(text)


async def test_what_the_server_refuses_for_ever_and_for_now():
    async with mailbox() as box:
        box.refuse = {ADA: "550 no such user", "eve@example.org": "451 later"}
        mailer = Mailer(settings(box), "Cupola")
        with pytest.raises(NotAllowedError, match="no such user"):
            await mailer.send(letter())
        with pytest.raises(UnavailableError, match="later"):
            await mailer.send(letter(to="eve@example.org"))
    with pytest.raises(UnavailableError, match="does not answer"):
        await mailer.send(letter())


@pytest.mark.parametrize("drips", [False, True])
async def test_a_server_that_never_answers_is_left(drips):
    gone = asyncio.Event()

    async def silent(reader, writer):
        # Never silent for long, and never done.
        while drips and not reader.at_eof():
            writer.write(b"220-wait\r\n")
            await asyncio.sleep(0.02)
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    about = MailSettings(host="127.0.0.1", port=port, tls="none", sender="cupola@example.org")
    mailer = Mailer(about, "Cupola", silence=30 if drips else 0.1, patience=0.4 if drips else 30)
    with pytest.raises(UnavailableError, match="took longer" if drips else "silent"):
        await mailer.send(letter())
    # And the connection is not left open either.
    await asyncio.wait_for(gone.wait(), 30)
    server.close()
