"""What a session reaches, seen from inside it; and each rule taken away once, to see that these tests would notice."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess

import pytest

from cupola.hub.containers.firewall import Firewall, resolvers
from cupola.hub.containers.ground import clear
from cupola.hub.containers.network import known
from support.containers import Door, grounds_in

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(300)]

METADATA = "169.254.169.254"
OUTSIDE = "203.0.113.77"
"""An address for documentation: nobody has it, but for the stand-in that the test makes."""

SERVER = (
    "import http.server, sys\n"
    "http.server.ThreadingHTTPServer(('0.0.0.0', 80), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def iptables(*words):
    done = subprocess.run(["iptables", "-w", *words], check=True, capture_output=True, text=True)
    return done.stdout


class Elsewhere:
    """A machine elsewhere, in a network namespace: it has some addresses and answers on port 80 of each.

    The host has a route to each of them, but for a private one that is the stand-in of an institute's network.
    """

    def __init__(self, *addresses):
        self.addresses = addresses
        self.name = f"cup-t-{secrets.token_hex(3)}"
        self.server = None

    def __enter__(self):
        ours, theirs = f"{self.name}a"[:15], f"{self.name}b"[:15]
        ip("netns", "add", self.name)
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.name)
        ip("address", "add", "192.0.2.129/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", self.name, "address", "add", "192.0.2.130/30", "dev", theirs)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", theirs, "up")
        ip("-n", self.name, "route", "add", "default", "via", "192.0.2.129")
        for address in self.addresses:
            ip("-n", self.name, "address", "add", f"{address}/32", "dev", "lo")
            ip("route", "add", f"{address}/32", "via", "192.0.2.130")
        command = ["ip", "netns", "exec", self.name, "python3", "-c", SERVER]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        for address in self.addresses:
            subprocess.run(["ip", "route", "del", f"{address}/32"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.name}a"[:15]], check=False, capture_output=True)


@contextlib.asynccontextmanager
async def looked_around(engine, folder, **options):
    """Give a session, and all that it might reach: by name, address and port."""
    private = "10.213.44.5"
    with (
        grounds_in(folder, engine, **options) as grounds,
        Elsewhere(METADATA, OUTSIDE, private) as _,
        Door("0.0.0.0", word="secret") as host,  # noqa: S104 - a service of the host that listens everywhere
    ):
        other_bridge = engine.client.networks.create(
            f"cupola-test-{secrets.token_hex(4)}", labels={"cupola.test": "bridge"}
        )
        try:
            one, two = grounds.session("one"), grounds.session("two")
            await asyncio.gather(one.start(), two.start())
            gateway = engine.client.networks.get(other_bridge.id).attrs["IPAM"]["Config"][0]["Gateway"]
            neighbour = two.container.attrs["NetworkSettings"]["Networks"][grounds.network.name]["IPAddress"]
            yield (
                grounds,
                one,
                {
                    "door": (grounds.network.gateway, grounds.network.door),
                    "host": (grounds.network.gateway, host.port),
                    "bridge": (gateway, host.port),
                    "neighbour": (neighbour, 8888),
                    "metadata": (METADATA, 80),
                    "private": (private, 80),
                    "outside": (OUTSIDE, 80),
                },
            )
        finally:
            other_bridge.remove()


async def reached(session, places):
    said = await asyncio.gather(*(session.reaches(*place) for place in places.values()))
    return {name for name, word in zip(places, said, strict=True) if word == "open"}


async def test_a_session_reaches_the_door_and_the_outside_alone(engine, tmp_path):
    async with looked_around(engine, tmp_path) as (grounds, session, places):
        assert await reached(session, places) == {"door", "outside"}
        # The hub, on the host, goes to the session all the same.
        assert await session.ask("api") == "{}"
        # A flush, as a restart of a firewall does, is seen and mended.
        assert grounds.firewall.intact()
        iptables("-F", grounds.firewall.host_chain)
        assert not grounds.firewall.intact()
        assert "host" in await reached(session, places)
        grounds.firewall.apply()
        assert grounds.firewall.intact()
        iptables("-D", "INPUT", *_jump(grounds.firewall))
        assert not grounds.firewall.intact()
        grounds.firewall.apply()
        assert await reached(session, places) == {"door", "outside"}


def _jump(firewall):
    return firewall._jumps["INPUT"].split()


@pytest.mark.parametrize(
    ("weaken", "seen"),
    [
        ("host", {"host", "bridge"}),
        ("metadata", {"metadata"}),
        ("private", {"private"}),
        ("icc private", {"private", "neighbour"}),
    ],
)
async def test_each_rule_taken_away_is_noticed(engine, tmp_path, weaken, seen):
    async with looked_around(engine, tmp_path, weaken=frozenset(weaken.split())) as (_, session, places):
        assert await reached(session, places) == {"door", "outside"} | seen


async def test_what_the_configuration_allows_and_blocks(engine, tmp_path):
    settings = {"allow": ["10.213.44.0/24"], "block": [f"{OUTSIDE}/32"]}
    async with looked_around(engine, tmp_path, **settings) as (_, session, places):
        assert await reached(session, places) == {"door", "private"}


async def found_beyond(engine, folder, weaken=""):
    """Return what a session reaches beyond the list, with some rules away."""
    options = {"weaken": frozenset(weaken.split())} if weaken else {}
    async with looked_around(engine, folder, **options) as (_, session, places):
        return await reached(session, places) - {"door", "outside"}


@pytest.mark.row(18)
async def test_sockets_of_the_host_and_of_others(engine, tmp_path, matrix):
    beyond = await found_beyond(engine, tmp_path / "strong") - {"metadata"}
    weak = await found_beyond(engine, tmp_path / "weak", "host icc private")
    red = {"host", "bridge", "neighbour", "private"} <= weak
    assert red, weak
    matrix("reachable sockets beyond the list", len(beyond), limit=0, seen_red=red)


@pytest.mark.row(19)
async def test_the_metadata_of_a_cloud(engine, tmp_path, matrix):
    hits = await found_beyond(engine, tmp_path / "strong") & {"metadata"}
    red = "metadata" in await found_beyond(engine, tmp_path / "weak", "metadata")
    assert red
    matrix("answers of the metadata address", len(hits), limit=0, seen_red=red)


async def test_an_internal_network_reaches_the_door_alone(engine, tmp_path):
    async with looked_around(engine, tmp_path, network="internal") as (_, session, places):
        assert await reached(session, places) == {"door"}


async def test_rules_are_made_again_and_again_without_growing_and_go_with_the_last_container(
    engine, tmp_path
):
    with grounds_in(tmp_path, engine) as grounds:
        session = await grounds.session("stays").start()
        before = iptables("-S")
        for _ in range(3):
            grounds.firewall.apply()
        after = iptables("-S")
        mine = grounds.config.paths.key
        assert [line for line in after.splitlines() if mine in line] == [
            line for line in before.splitlines() if mine in line
        ]
        network = known(grounds.config.paths)
        assert network == grounds.network
        assert not clear(network, grounds.config.paths), "a container needs them"
        assert grounds.firewall.intact()
        await session.driver.stop()
        assert clear(network, grounds.config.paths)
        left = iptables("-S")
        assert mine not in left
        assert engine.client.networks.list(names=[grounds.network.name]) == []
        assert known(grounds.config.paths) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nameserver 10.0.0.2\nnameserver 10.0.0.2\n", ["10.0.0.2"]),
        ("# nameserver 10.0.0.2\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\noptions x\n", []),
        ("nameserver nonsense\nnameserver\n", []),
    ],
)
async def test_name_servers_of_the_host(tmp_path, text, found):
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    assert resolvers(file) == found
    assert resolvers(tmp_path / "missing") == []


async def test_name_servers_are_reached_wherever_they_are(engine, tmp_path):
    with grounds_in(tmp_path, engine) as grounds:
        rules = Firewall(grounds.network, name_servers=["10.9.9.9"])
        assert "-d 10.9.9.9/32 -p udp -m udp --dport 53 -j RETURN" in rules.out_rules
        assert rules.out_rules.index(
            "-d 10.9.9.9/32 -p udp -m udp --dport 53 -j RETURN"
        ) < rules.out_rules.index("-d 10.0.0.0/8 -j REJECT --reject-with icmp-port-unreachable")
