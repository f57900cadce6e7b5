"""The rules of what a session may reach, in the packet filter of the host.

Two chains per platform, by the interface of its bridge: ``CUPOLA-KEY-HOST`` for the host itself, where only the door answers,
and ``CUPOLA-KEY-OUT`` for everything behind it. Docker leaves both alone: the second hangs in its chain ``DOCKER-USER``.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.models.containers import SessionNetwork

__all__ = ["PRIVATE", "Firewall", "resolvers", "why_not"]

METADATA = ["169.254.0.0/16"]
"""Link-local: where clouds tell a machine its secrets."""
PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]
SECONDS = 30
DOCKERS = "DOCKER-USER"


def resolvers(file: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Return the addresses (IPv4) of the host's name servers; those of the host itself the engine asks for us."""
    found = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            if address.version == 4 and not address.is_loopback:  # noqa: PLR2004 - of the Internet Protocol
                found.append(str(address))
    return list(dict.fromkeys(found))


def why_not() -> str | None:
    """Return why rules cannot be made here, with the way out; nothing where they can."""
    if os.geteuid() != 0:
        return (
            "sessions in containers are kept apart by rules of the packet filter, which only root may make; start the "
            "platform as root, or set `compute: process` in cupola.yaml"
        )
    missing = [name for name in ("iptables", "iptables-restore") if not shutil.which(name)]
    if missing:
        return f"{missing[0]} is not installed, and containers cannot be kept apart; run `apt-get install iptables`"
    return None


class Firewall:
    """The rules of one platform.

    Parameters
    ----------
    network
        Whose; with its door.
    allow, block
        Networks of the configuration.
    name_servers
        What names are asked of.
    weaken
        Groups of rules that are left out, so that a test sees that it would notice: ``host``, ``metadata``,
        ``private``.
    """

    def __init__(
        self,
        network: SessionNetwork,
        *,
        allow: Sequence[str] = (),
        block: Sequence[str] = (),
        name_servers: Sequence[str] = (),
        weaken: frozenset[str] = frozenset(),
    ) -> None:
        self.network = network
        self.allow, self.block, self.name_servers = list(allow), list(block), list(name_servers)
        self.weaken = weaken
        self.host_chain = f"CUPOLA-{network.key}-HOST"
        self.out_chain = f"CUPOLA-{network.key}-OUT"
        self._made: dict[str, list[str]] = {}

    # -- the rules --------------------------------------------------------------------------------------------

    @property
    def host_rules(self) -> list[str]:
        """What may be reached of the host: answers to what the host itself began, the door, and names."""
        if "host" in self.weaken:
            return []
        door = f"-d {self.network.gateway}/32 -p tcp -m tcp --dport {self.network.door}"
        return [
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"{door} -m conntrack --ctstate NEW -j ACCEPT",
            *self._names("ACCEPT"),
            "-j REJECT --reject-with icmp-port-unreachable",
        ]

    @property
    def out_rules(self) -> list[str]:
        """What may be reached behind the host. ``RETURN``: other rules of the machine have their say too."""
        refuse = "-j REJECT --reject-with icmp-port-unreachable"
        rules = ["-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
        if self.network.internal:
            return [*rules, refuse]
        rules += self._names("RETURN")
        rules += [f"-d {network} -j RETURN" for network in self.allow]
        blocked = [*self.block]
        if "metadata" not in self.weaken:
            blocked += METADATA
        if "private" not in self.weaken:
            blocked += PRIVATE
        return [*rules, *(f"-d {network} {refuse}" for network in blocked)]

    def _names(self, verdict: str) -> list[str]:
        if self.network.internal:
            return []
        return [
            f"-d {server}/32 -p {kind} -m {kind} --dport 53 -j {verdict}"
            for server in self.name_servers
            for kind in ("udp", "tcp")
        ]

    @property
    def _jumps(self) -> dict[str, str]:
        """The rules by which packets come into our chains, by the chain they stand in."""
        return {
            "INPUT": f"-i {self.network.bridge} -j {self.host_chain}",
            DOCKERS: f"-i {self.network.bridge} -j {self.out_chain}",
        }

    # -- doing ------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Make the rules, whatever is left of earlier ones; at no moment is there only a part of a chain.

        Raises
        ------
        StartError
            They cannot be made.
        """
        if _run(["iptables", "-w", "5", "-S", DOCKERS]).returncode != 0:
            raise StartError(
                f"the Docker engine makes no rules in the packet filter (there is no chain {DOCKERS}), so its "
                "containers would not be kept apart; let it (`iptables` in /etc/docker/daemon.json), then start again"
            )
        lines = ["*filter"]
        chains = {self.host_chain: self.host_rules, self.out_chain: self.out_rules}
        for chain, rules in chains.items():
            lines += [f":{chain} - [0:0]", f"-F {chain}", *(f"-A {chain} {rule}" for rule in rules)]
        _must(["iptables-restore", "-w", "5", "--noflush"], "\n".join([*lines, "COMMIT", ""]))
        for chain, jump in self._jumps.items():
            if not self._jumps_first(chain, jump):
                while _run(["iptables", "-w", "5", "-D", chain, *jump.split()]).returncode == 0:
                    pass
                _must(["iptables", "-w", "5", "-I", chain, "1", *jump.split()])
        self._silence_ipv6()
        # As the filter writes them: it orders the words of a rule in its own way.
        self._made = {chain: _listed(chain) for chain in chains}

    def intact(self) -> bool:
        """Return whether all rules are as they were made: a restart of a firewall flushes them."""
        return bool(self._made) and all(
            [
                *(_listed(chain) == rules for chain, rules in self._made.items()),
                *(self._jumps_first(chain, jump) for chain, jump in self._jumps.items()),
            ]
        )

    def remove(self) -> None:
        """Take the rules away; none of them being there is fine."""
        if not shutil.which("iptables"):
            return
        for chain, jump in self._jumps.items():
            while _run(["iptables", "-w", "5", "-D", chain, *jump.split()]).returncode == 0:
                pass
        for chain in (self.host_chain, self.out_chain):
            _run(["iptables", "-w", "5", "-F", chain])
            _run(["iptables", "-w", "5", "-X", chain])

    def _jumps_first(self, chain: str, jump: str) -> bool:
        """Return whether `jump` stands in `chain` before everything but the jumps of other platforms."""
        for rule in _listed(chain):
            if rule == f"-A {chain} {jump}":
                return True
            if "-j CUPOLA-" not in rule:
                return False
        return False

    def _silence_ipv6(self) -> None:
        """Take the bridge's own IPv6 address away: the rules here are for IPv4."""
        file = Path(f"/proc/sys/net/ipv6/conf/{self.network.bridge}/disable_ipv6")
        if file.exists():
            try:
                file.write_text("1", encoding="ascii")
            except OSError as exc:
                raise StartError(
                    f"IPv6 cannot be switched off on {self.network.bridge} ({exc.strerror}); start the platform as root"
                ) from exc


def _listed(chain: str) -> list[str]:
    """Return the rules of a chain as the filter writes them."""
    said = _run(["iptables", "-w", "5", "-S", chain])
    return [line for line in said.stdout.splitlines() if line.startswith("-A ")]


def _must(command: list[str], text: str = "") -> None:
    done = _run(command, text)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[0]
        raise StartError(
            f"the rules that keep sessions apart cannot be made: {command[0]} says: {said}; mend the packet filter, "
            "then start again"
        )


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return subprocess.CompletedProcess(command, 127, "", str(exc))
