"""nginx in front, with TLS: sign-in, sessions, websockets, large uploads, forgery checks, and a word on a wrong header."""

from __future__ import annotations

import pytest

from cupola.models.session import SessionState
from support.fronts import HEADERS, free_port, nginx, visitor_with
from support.platform import OWNER

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]

UPLOAD = 40 * 2**20


@pytest.fixture
def front(new_platform, monkeypatch, tmp_path):
    """Start a platform behind nginx; return it, the public address, and how to start nginx."""
    port = free_port()
    address = f"https://localhost:{port}"
    platform = new_platform(settings=f"url: {address}\n")
    text = platform.config_file.read_text()
    platform.config_file.write_text(text.replace("server:\n", "server:\n  trusted_proxies: [127.0.0.1/32]\n"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nginx" / "certificate.pem"))
    platform.start()
    return platform, address, lambda headers: nginx(tmp_path / "nginx", platform.port, headers, port)


async def test_all_works_behind_nginx_and_a_wrong_header_is_told(front):
    platform, address, start = front
    assert platform.first_link.startswith(address)
    with start(HEADERS) as certificate:
        async with visitor_with(address, certificate) as visitor:
            assert await visitor.sign_in(platform.link()) == "/services/cupola/"
            cookies = list(visitor.http.cookies.jar)
            assert {cookie.name for cookie in cookies if not cookie.secure} == set()
            assert "service-cupola" in {cookie.name for cookie in cookies}
            session = await visitor.wait_for(await visitor.press_play("lab"), SessionState.READY)
            kernel = await visitor.open_kernel(session)
            assert (await kernel.run("print(6 * 7)")).text == "42\n"
            await upload(visitor, session)
            await forged(visitor, address)
    for without, told in (("Host", "the header Host"), ("X-Forwarded-Proto", "X-Forwarded-Proto")):
        headers = {name: value for name, value in HEADERS.items() if name != without}
        with start(headers) as certificate:
            async with visitor_with(address, certificate) as visitor:
                page = await visitor.http.get("/services/cupola/", follow_redirects=False)
                assert page.status_code == 500
                assert told in page.text


async def upload(visitor, session):
    prefix = f"/user/{OWNER}/{session.id}/"
    headers = {"X-XSRFToken": visitor._cookie("_xsrf", prefix)}
    body = {"type": "file", "format": "text", "content": "x" * UPLOAD}
    answer = await visitor.http.put(f"{prefix}api/contents/large.txt", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    seen = await visitor.http.get(f"{prefix}api/contents/large.txt", params={"content": 0})
    assert seen.json()["size"] == UPLOAD


async def forged(visitor, address):
    """A page of our own may change things, one of another site may not."""
    token = visitor._cookie("cupola-csrf", "/services/cupola/")
    path = "/services/cupola/api/sessions/none/stop"
    ours = await visitor.http.post(path, headers={"Origin": address, "X-CSRF-Token": token})
    assert ours.status_code == 404
    theirs = await visitor.http.post(path, headers={"Origin": "https://evil.example", "X-CSRF-Token": token})
    assert theirs.status_code == 403
