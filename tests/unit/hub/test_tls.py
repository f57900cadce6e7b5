from __future__ import annotations

import pytest

from cupola.config import Config
from cupola.exceptions import StartError
from cupola.hub import tls, traefik
from cupola.hub.ports import Ports


@pytest.fixture
def ports():
    return Ports(hub=1, portal=2, proxy=3, door=4)


def settings(tmp_path, **more):
    return Config.model_validate({"state": str(tmp_path), "url": "https://lab.example.org", **more})


def test_https_listens_where_browsers_look_and_fetches_its_certificate(tmp_path, ports):
    config = settings(tmp_path, server={"acme_email": "it@example.org"})
    fixed = traefik.static_configuration(config, ports)
    public, plain = fixed["entryPoints"]["http"], fixed["entryPoints"]["plain"]
    assert (public["address"], plain["address"]) == ("0.0.0.0:443", "0.0.0.0:80")
    assert public["http"]["tls"] == {"certResolver": "cupola", "domains": [{"main": "lab.example.org"}]}
    assert plain["http"]["redirections"]["entryPoint"] == {"to": "http", "scheme": "https", "permanent": True}
    acme = fixed["certificatesResolvers"]["cupola"]["acme"]
    assert acme["httpChallenge"] == {"entryPoint": "plain"}
    assert acme["email"] == "it@example.org"


def test_without_the_plain_port_the_challenge_is_of_tls(tmp_path, ports):
    fixed = traefik.static_configuration(settings(tmp_path, server={"redirect_port": None}), ports)
    assert "plain" not in fixed["entryPoints"]
    assert fixed["certificatesResolvers"]["cupola"]["acme"]["tlsChallenge"] == {}


def test_a_certificate_of_files_is_not_fetched(tmp_path, ports):
    files = {"certificate": str(tmp_path / "c.pem"), "certificate_key": str(tmp_path / "k.pem")}
    config = settings(tmp_path, server=files)
    fixed, routes = traefik.static_configuration(config, ports), tls.certificate_routes(config)
    assert "certificatesResolvers" not in fixed
    assert fixed["entryPoints"]["http"]["http"]["tls"] == {}
    pair = {"certFile": str(tmp_path / "c.pem"), "keyFile": str(tmp_path / "k.pem")}
    assert routes["tls"] == {"certificates": [pair], "stores": {"default": {"defaultCertificate": pair}}}
    with pytest.raises(StartError, match=r"c\.pem cannot be read"):
        tls.check(config)


def test_behind_another_proxy_https_is_its_business(tmp_path, ports):
    config = settings(tmp_path, server={"trusted_proxies": ["10.0.0.1/32"], "port": 8000})
    fixed = traefik.static_configuration(config, ports)
    assert "tls" not in fixed["entryPoints"]["http"]["http"]
    assert fixed["entryPoints"]["http"]["address"] == "127.0.0.1:8000"
    assert fixed["entryPoints"]["http"]["forwardedHeaders"] == {"trustedIPs": ["10.0.0.1/32"]}
    assert tls.certificate_routes(config) == {}


def test_a_certificate_that_nobody_would_see_is_refused(tmp_path):
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    files = {"certificate": str(tmp_path / "c.pem"), "certificate_key": str(tmp_path / "k.pem")}
    config = Config.model_validate({"state": str(tmp_path), "server": files})
    with pytest.raises(StartError, match="let `url` begin with https"):
        tls.check(config)
