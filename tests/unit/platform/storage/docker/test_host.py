from __future__ import annotations

import subprocess
import tarfile

import pytest

from cupola.exceptions import StartError
from cupola.platform.storage.docker import host
from cupola.platform.storage.environments import indexes

DEB822 = """\
Types: deb deb-src
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Nothing of the machine that runs the tests."""
    for name in (
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(host, "pip_settings", dict)
    monkeypatch.setattr(host, "index_settings", dict)


@pytest.fixture
def unpacked(tmp_path):
    def write():
        secret = host.write_host(tmp_path / "secret")
        assert secret.stat().st_mode & 0o777 == 0o600
        with tarfile.open(secret) as archive:
            return {
                entry.name: archive.extractfile(entry).read().decode() if entry.isfile() else None
                for entry in archive
            }

    return write


def test_the_packages_of_this_debian_and_of_nothing_else(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "other.list").write_text(
        "deb [signed-by=/x] https://other.invalid/debian-tools bookworm stable\n# deb http://no.invalid/debian bookworm main\n"
    )
    assert host.debian_sources(tmp_path).splitlines() == [
        "deb http://mirror.invalid/debian bookworm main contrib",
        "deb http://mirror.invalid/debian bookworm-updates main contrib",
        "deb http://mirror.invalid/debian-security bookworm-security main",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "deb http://mirror.invalid/debian trixie main",
        "deb http://mirror.invalid/debian-security bookworm-security main",
        "",
    ],
)
def test_another_system_says_nothing_about_packages(tmp_path, line):
    (tmp_path / "sources.list").write_text(line + "\n")
    assert host.debian_sources(tmp_path) == ""


def test_the_settings_become_lines_of_a_shell(unpacked, monkeypatch, tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("https_proxy", "http://user:a'b $(c)@proxy.invalid:3128")
    monkeypatch.setattr(
        host,
        "pip_settings",
        lambda: {
            "index-url": "https://mirror.invalid/simple",
            "extra-index-url": "file:///opt/here https://b.invalid/s",
        },
    )
    monkeypatch.setattr(host, "index_settings", lambda: {"UV_DEFAULT_INDEX": "https://mirror.invalid/simple"})
    parts = unpacked()
    assert parts["ca.crt"] == "certificates"
    assert f"{host.PLACE}/ca.crt" in parts["apt.conf"]
    script = (
        parts["environment"]
        + 'printf "%s\\n" "$https_proxy" "$UV_DEFAULT_INDEX" "$PIP_EXTRA_INDEX_URL" "$PIP_CERT"'
    )
    said = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [
        "http://user:a'b $(c)@proxy.invalid:3128",
        "https://mirror.invalid/simple",
        # A folder of this machine is none of the build's.
        "https://b.invalid/s",
        f"{host.PLACE}/ca.crt",
    ]


def test_more_than_a_secret_takes_is_said(tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(
        b"".join(bytes([number % 251, number % 241, number % 239]).hex().encode() for number in range(10))
    )
    monkeypatch.setattr(host, "LARGEST", 10)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(StartError, match="SSL_CERT_FILE"):
        host.write_host(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()


def test_npm_is_told_of_servers_only(tmp_path, monkeypatch, unpacked):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".npmrc").write_text(
        "registry=https://npm.invalid/\nnodedir=/usr\n//npm.invalid/:_authToken=abc\n"
    )
    lines = unpacked()["npmrc"].splitlines()
    assert "registry=https://npm.invalid/" in lines
    assert "//npm.invalid/:_authToken=abc" in lines
    assert not [line for line in lines if "nodedir" in line]


def test_uv_hears_what_pip_is_told(monkeypatch):
    told = {
        "index-url": "https://mirror.invalid/simple",
        "extra-index-url": "https://a.invalid/s  https://b.invalid/s",
        "find-links": "/opt/wheels https://c.invalid/w",
        "cert": "/etc/ca.pem",
    }
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_STRATEGY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(indexes, "pip_settings", lambda: told)
    assert indexes.index_settings() == {
        "UV_DEFAULT_INDEX": "https://mirror.invalid/simple",
        "UV_INDEX": "https://a.invalid/s https://b.invalid/s",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/opt/wheels,https://c.invalid/w",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.invalid/simple")
    assert "UV_DEFAULT_INDEX" not in indexes.index_settings()


def test_pip_itself_is_asked(monkeypatch, tmp_path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://mirror.invalid/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    indexes.pip_settings.cache_clear()
    try:
        assert indexes.pip_settings()["index-url"] == "https://mirror.invalid/simple"
    finally:
        indexes.pip_settings.cache_clear()
