"""What a start needs: ports, secrets, the lock, the proxy's configuration, the back-off."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib

import psutil
import pytest
import yaml

from cupola.config import Config, ServerSettings
from cupola.exceptions import ConflictError, StartError
from cupola.hub import platform, traefik
from cupola.hub.files import write_private
from cupola.hub.keep import BackOff
from cupola.hub.keys import Keys
from cupola.hub.ports import Ports, is_free
from cupola.hub.settings import configure
from cupola.models.containers import SessionNetwork


@pytest.fixture
def config(tmp_path):
    return Config(state=tmp_path / "state", owner="ada")


def test_ports_are_kept(tmp_path):
    file = tmp_path / "ports.json"
    first = Ports.choose(file)
    assert Ports.choose(file) == first == Ports.read(file)
    assert len({first.hub, first.portal, first.proxy}) == 3


def test_only_a_port_that_a_stranger_took_is_replaced(tmp_path):
    file = tmp_path / "ports.json"
    first = Ports.choose(file)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first.portal))
        stranger.listen(1)
        kept = Ports.choose(file, frozenset({first.portal}))
        second = Ports.choose(file)
    assert kept == first
    assert second.portal != first.portal
    assert (second.hub, second.proxy) == (first.hub, first.proxy)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"hub": 1}', '{"hub": 1, "portal": 1, "proxy": 1}', '{"hub":0,"portal":2,"proxy":3}'],
)
def test_damaged_ports_are_chosen_anew(tmp_path, content):
    file = tmp_path / "ports.json"
    file.write_text(content)
    with pytest.raises(StartError, match="cupola up"):
        Ports.read(file)
    assert Ports.read(file) if Ports.choose(file) else None


def test_ports_of_an_older_start_stay_and_the_door_is_added(tmp_path):
    file = tmp_path / "ports.json"
    first = Ports.choose(file)
    old = json.loads(file.read_text())
    del old["door"]
    file.write_text(json.dumps(old))
    second = Ports.choose(file)
    assert (second.hub, second.portal, second.proxy) == (first.hub, first.portal, first.proxy)
    assert second == Ports.read(file)


def test_a_taken_port_is_seen():
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen(1)
        assert not is_free("127.0.0.1", stranger.getsockname()[1])
    assert is_free("127.0.0.1", stranger.getsockname()[1] if stranger.fileno() >= 0 else 0)
    with pytest.raises(OSError):  # noqa: PT011 - the system words it
        is_free("192.0.2.1", 8000)


def test_secrets_are_made_once_and_private(tmp_path):
    keys = Keys(tmp_path / "secrets")
    with pytest.raises(StartError, match="cupola up"):
        _ = keys.internal
    keys.make()
    first = [keys.internal, keys.portal, keys.supervisor, keys.proxy, keys.cookie_file.read_text()]
    assert len(set(first)) == 5
    keys.cookie_file.chmod(0o644)
    keys.make()
    assert [keys.internal, keys.portal, keys.supervisor, keys.proxy, keys.cookie_file.read_text()] == first
    for file in keys.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (keys.folder / "internal-token").write_text("")
    with pytest.raises(StartError, match="empty"):
        _ = keys.internal


def test_a_write_that_fails_keeps_the_old_content(tmp_path):
    file = tmp_path / "it"
    write_private(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(file, "\ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_one_state_folder_has_one_cupola_up(config):
    with platform.hold(config):
        platform.note(config, ready=True)
        living = platform.Living.find(config.paths)
        assert living.process.pid == os.getpid()
        assert living.ready
        with pytest.raises(ConflictError, match="already runs") as refused, platform.hold(config):
            pass
        assert "\n" not in str(refused.value)
        # The refused one must not remove the note of the living one.
        assert platform.Living.find(config.paths) is not None
    assert platform.Living.find(config.paths) is None
    with platform.hold(config):
        pass


def test_the_note_of_a_killed_one_counts_for_nothing(config):
    with platform.hold(config):
        content = json.loads(config.paths.platform.read_text())
    content["created"] -= 1000
    config.paths.platform.write_text(json.dumps(content))
    assert platform.Living.find(config.paths) is None


def test_a_state_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="--state"), platform.hold(Config(state=tmp_path / "file" / "state")):
        pass


def test_the_door_leads_to_two_interfaces_and_nowhere_else(config):
    ports = Ports(hub=1001, portal=1002, proxy=1003, door=1004)
    network = SessionNetwork(
        key="0", host="unix:///x", name="n", bridge="b", gateway="192.0.2.1", subnet="192.0.2.0/24", door=1004
    )
    entries = traefik.static_configuration(config, ports, network)["entryPoints"]
    assert entries["sessions"]["address"] == "192.0.2.1:1004"
    assert "sessions" not in traefik.static_configuration(config, ports)["entryPoints"]
    routes = traefik.door_routes(ports)["http"]
    assert {router["entryPoints"][0] for router in routes["routers"].values()} == {"sessions"}
    assert sorted(router["rule"] for router in routes["routers"].values()) == [
        "Path(`/hub/api`) || PathPrefix(`/hub/api/`)",
        "Path(`/services/cupola/api`) || PathPrefix(`/services/cupola/api/`)",
    ]


def test_the_proxys_configuration(config):
    ports = Ports(hub=1001, portal=1002, proxy=1003, door=1004)
    config.paths.proxy.mkdir(parents=True)
    assert traefik.write_configuration(config, ports)
    assert not traefik.write_configuration(config, ports)
    written = yaml.safe_load(traefik.static_file(config.paths.proxy).read_text())
    assert written["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert written["entryPoints"]["http"]["address"] == "127.0.0.1:8000"
    assert written["entryPoints"]["http"]["http"] == {"aliasHeadersStrategy": "delete"}
    assert "forwardedHeaders" not in written["entryPoints"]["http"]
    assert written["entryPoints"]["auth_api"]["address"] == "127.0.0.1:1003"
    assert tomllib.loads(traefik.routes_file(config.paths.proxy).read_text()) == {}
    other = config.model_copy(
        update={
            "url": "https://lab.example.org",
            "server": ServerSettings(address="::", trusted_proxies=["127.0.0.1/32"]),
        }
    )
    assert traefik.write_configuration(other, ports)
    written = yaml.safe_load(traefik.static_file(config.paths.proxy).read_text())
    assert written["entryPoints"]["http"]["address"] == "[::]:8000"
    assert written["entryPoints"]["http"]["forwardedHeaders"]["trustedIPs"] == ["127.0.0.1/32"]


def test_routes_survive_a_start_but_not_damage(config):
    ports = Ports(hub=1001, portal=1002, proxy=1003, door=1004)
    config.paths.proxy.mkdir(parents=True)
    routes = traefik.routes_file(config.paths.proxy)
    routes.write_text("[http]\n")
    (config.paths.proxy / "routes.toml-tmp-abc").write_text("half")
    traefik.write_configuration(config, ports)
    assert routes.read_text() == "[http]\n"
    assert not list(config.paths.proxy.glob("*tmp*"))
    routes.write_bytes(b"[http\xff")
    traefik.write_configuration(config, ports)
    assert tomllib.loads(routes.read_text()) == {}


def test_the_hubs_configuration_lets_in_the_owner_only(config):
    from traitlets.config import Config as Traitlets

    config.paths.ports.parent.mkdir(parents=True)
    Keys(config.paths.secrets).make()
    Ports.choose(config.paths.ports)
    c = Traitlets()
    configure(c, config)
    assert c.JupyterHub.authenticator_class == "cupola.hub.signin.authenticator.SignInAuthenticator"
    assert c.SignInAuthenticator.settings.owner == "ada"
    assert c.Authenticator.allow_existing_users is False
    assert c.Authenticator.auth_refresh_strict is True
    assert 0 < c.Authenticator.auth_refresh_age <= 5
    assert c.JupyterHub.oauth_require_pkce is True
    assert c.JupyterHub.cleanup_servers is False
    assert c.JupyterHub.hub_ip == "127.0.0.1"
    assert c.JupyterHub.default_url == "/services/cupola/"
    portal = c.JupyterHub.services[0]
    assert portal["environment"]["CUPOLA_STATE"] == str(config.state)
    assert portal["oauth_client_allowed_scopes"] == ["self"]
    assert "access:services!service=cupola" in c.SessionSpawner.server_token_scopes


def test_the_wait_grows_with_each_death_and_is_short_again_after_a_good_run():
    back_off = BackOff(first=1, most=5, good=60)
    assert [back_off.after(lived=0) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert back_off.after(lived=61) == 1


def test_what_is_kept_running_comes_back_and_dies_with_its_parent(tmp_path):
    """A parent starts a keeper; its command is killed, then the parent."""
    log, pids = tmp_path / "log", tmp_path / "pids"
    command = [
        sys.executable,
        "-c",
        f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(100)",
    ]
    keeper = [sys.executable, "-m", "cupola.hub.keep", str(log), *command]
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({keeper!r})"])
    try:
        first = _lines(pids, 1)[0]
        psutil.Process(first).kill()
        second = _lines(pids, 2)[1]
        assert "ended with -9" in log.read_text()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        _until(lambda: not _lives(second))
    finally:
        parent.kill()
        parent.wait()


def _lines(file, count):
    _until(lambda: file.exists() and file.read_text().count("\n") >= count)
    return [int(line) for line in file.read_text().split()]


def _lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(question, seconds=60):
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)
