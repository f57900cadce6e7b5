"""Which addresses the buckets of people may lie at: public ones, and those that the operator allows."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import NotAllowedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AddressRule", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SECONDS = 5.0


def is_public(address: Address) -> bool:
    """Return whether `address` is one of the internet at large, also where it wraps another one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True)
class AddressRule:
    """Public addresses, and the hosts and networks in `allow`."""

    allow: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Return whether the operator allows `host` (a name or an address) by itself."""
        plain = host.rstrip(".").lower()
        if plain in {entry.rstrip(".").lower() for entry in self.allow}:
            return True
        try:
            return self._in_network(ipaddress.ip_address(plain.strip("[]")))
        except ValueError:
            return False

    def permits(self, host: str, address: Address) -> bool:
        """Return whether a bucket may lie at `address`, to which the name `host` leads."""
        return is_public(address) or self.names(host) or self._in_network(address)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host`, if a bucket may lie at each of them.

        Raises
        ------
        UnavailableError
            If nobody knows the name.
        NotAllowedError
            If one of the addresses is private.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise UnavailableError(f"The name {host} leads nowhere just now: check it.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        self._check(host, addresses)
        return addresses

    def _check(self, host: str, addresses: Sequence[str]) -> None:
        for text in addresses:
            # One private address among public ones is enough: which one is taken is not ours to choose.
            if not self.permits(host, ipaddress.ip_address(text)):
                raise NotAllowedError(
                    f"{host} lies at the private address {text}, where no bucket of yours may lie: "
                    "whoever runs this platform can allow it under custom_volumes.allow."
                )

    def _in_network(self, address: Address) -> bool:
        for entry in self.allow:
            try:
                network = ipaddress.ip_network(entry, strict=False)
            except ValueError:
                continue
            if address.version == network.version and address in network:
                return True
        return False
