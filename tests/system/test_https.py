"""HTTPS by the platform's own proxy: a certificate from files, and one from a real ACME server (Debian's pebble)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import stat
import subprocess
import time

import httpx
import pytest

from cupola.models.session import SessionState
from support.fronts import free_port, self_signed, until_listening, visitor_with

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]


def secured(new_platform, server, more=None):
    """Return a platform with HTTPS of its own, not started yet, and its address."""
    platform = new_platform(more=more or {})
    plain, address = free_port(), f"https://localhost:{platform.port}"
    lines = {"address": "127.0.0.1", "redirect_port": plain, **server}
    text = platform.config_file.read_text()
    added = "".join(f"  {name}: {value}\n" for name, value in lines.items())
    platform.config_file.write_text(text.replace("server:\n", f"url: {address}\nserver:\n{added}"))
    return platform, address, plain


async def test_a_certificate_of_files(new_platform, tmp_path, monkeypatch):
    certificate, key = self_signed(tmp_path / "tls")
    platform, address, plain = secured(new_platform, {"certificate": certificate, "certificate_key": key})
    platform.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with visitor_with(address, certificate) as visitor:
        assert await visitor.sign_in(platform.link()) == "/services/cupola/"
        page = await visitor.http.get("/services/cupola/")
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert {cookie.name for cookie in visitor.http.cookies.jar if not cookie.secure} == set()
        session = await visitor.wait_for(await visitor.press_play("lab"), SessionState.READY)
        kernel = await visitor.open_kernel(session)
        assert (await kernel.run("print(6 * 7)")).text == "42\n"
    async with httpx.AsyncClient(trust_env=False) as http:
        led = await http.get(f"http://localhost:{plain}/services/cupola/")
        assert led.status_code in {301, 308}
        assert led.headers["Location"] == f"{address}/services/cupola/"


async def test_half_a_certificate_stops_the_start(new_platform, tmp_path):
    certificate, _ = self_signed(tmp_path / "tls")
    platform, _, _ = secured(new_platform, {"certificate": certificate})
    done = platform.run("up", seconds=200)
    assert done.returncode != 0
    assert "server.certificate and server.certificate_key belong together" in done.stdout + done.stderr


@pytest.fixture
def authority(tmp_path):
    """Start an ACME server that looks for challenges on a port of ours; return a function."""
    program = shutil.which(
        "pebble", path=os.environ["PATH"] + ":" + os.environ.get("CUPOLA_TEST_PROGRAMS", "")
    )
    if program is None:
        pytest.skip("pebble is not installed (Debian's package of that name is an ACME server for tests)")
    folder = tmp_path / "pebble"
    certificate, key = self_signed(folder)
    processes = []

    def start(*, plain, secure):
        port, management = free_port(), free_port()
        (folder / "config.json").write_text(
            json.dumps(
                {
                    "pebble": {
                        "listenAddress": f"127.0.0.1:{port}",
                        "managementListenAddress": f"127.0.0.1:{management}",
                        "certificate": str(certificate),
                        "privateKey": str(key),
                        "httpPort": plain,
                        "tlsPort": secure,
                    }
                }
            )
        )
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        with (folder / "log").open("wb") as log:
            command = [program, "-config", str(folder / "config.json")]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        until_listening(port)
        return f"https://localhost:{port}/dir", certificate, management

    yield start
    for process in processes:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("challenge", ["http", "tls"])
async def test_a_certificate_is_fetched_from_an_authority(new_platform, authority, challenge):
    platform, address, plain = secured(new_platform, {"acme_email": "it@example.org"})
    directory, certificate, management = authority(plain=plain, secure=platform.port)
    platform.more["LEGO_CA_CERTIFICATES"] = str(certificate)
    text = platform.config_file.read_text().replace("server:\n", f"server:\n  acme_server: {directory}\n")
    if challenge == "tls":
        text = text.replace(f"redirect_port: {plain}", "redirect_port: null")
    platform.config_file.write_text(text)
    platform.start()
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(certificate))) as http:
        roots = (await http.get(f"https://localhost:{management}/roots/0")).text
    context = ssl.create_default_context(cadata=roots)
    until, page = time.monotonic() + 60, None
    while page is None and time.monotonic() < until:
        # Until it is there, traefik answers with a certificate that nobody trusts.
        with contextlib.suppress(httpx.ConnectError):
            async with httpx.AsyncClient(verify=context, trust_env=False) as http:
                page = await http.get(f"{address}/services/cupola/")
        await asyncio.sleep(0.5)
    assert page is not None, (platform.paths.log / "proxy.log").read_text()[-3000:]
    assert page.status_code == 401  # of the portal, to a program that is not signed in
    kept = platform.paths.proxy / "acme.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
