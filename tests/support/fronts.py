"""What stands in front of a platform: certificates made on the spot, and nginx with its own configuration."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from cupola.monitor.visitor import Visitor
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NGINX = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      {headers}
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 3600s;
      client_max_body_size 0;
    }}
  }}
}}
"""
HEADERS = {
    "Host": "$http_host",
    "X-Forwarded-For": "$proxy_add_x_forwarded_for",
    "X-Forwarded-Proto": "$scheme",
    "X-Forwarded-Host": "$http_host",
}


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


@contextlib.contextmanager
def nginx(folder: Path, upstream: int, headers: dict[str, str], port: int) -> Iterator[Path]:
    """Run nginx with TLS in front of a port; return its certificate."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    certificate, key = self_signed(folder)
    lines = " ".join(f"proxy_set_header {name} {value};" for name, value in headers.items())
    file = folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            folder=folder, port=port, certificate=certificate, key=key, upstream=upstream, headers=lines
        )
    )
    command = [
        program,
        "-p",
        str(folder),
        "-c",
        str(file),
        "-e",
        str(folder / "error.log"),
        "-g",
        "daemon off;",
    ]
    with subprocess.Popen(command) as process:
        try:
            until_listening(port)
            yield certificate
        finally:
            process.terminate()
            process.wait(60)


def until_listening(port: int, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, f"nothing listens on {port}"
        time.sleep(0.05)


def visitor_with(address: str, certificate: Path) -> Visitor:
    """Return a visitor who trusts the certificate; kernels need it in SSL_CERT_FILE too."""
    made = Visitor(address)
    context = ssl.create_default_context(cafile=str(certificate))
    made.http = httpx.AsyncClient(
        base_url=address,
        headers=made.http.headers,
        follow_redirects=True,
        timeout=60,
        trust_env=False,
        verify=context,
    )
    return made


__all__ = ["HEADERS", "free_port", "nginx", "self_signed", "until_listening", "visitor_with"]
