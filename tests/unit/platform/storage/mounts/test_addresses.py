from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.exceptions import NotAllowedError, UnavailableError
from cupola.platform.storage.mounts.addresses import AddressRule, is_public

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_are_none_of_the_internet_however_they_are_written(text):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are(text):
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_no_wrapping_makes_a_private_address_public(address):
    number = int(address)
    for wrapped in (
        ipaddress.IPv6Address(0xFFFF_0000_0000 | number),
        ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ):
        assert not is_public(wrapped)


def test_what_the_operator_allows_is_allowed_and_nothing_beside_it():
    rule = AddressRule(("10.20.0.0/16", "minio.example.org", "fd00::/8"))
    at = ipaddress.ip_address
    assert rule.permits("x", at("10.20.3.4"))
    assert not rule.permits("x", at("10.21.0.1"))
    assert rule.permits("MINIO.example.org.", at("192.168.0.9"))
    assert not rule.permits("minio.example.org.evil.test", at("192.168.0.9"))
    assert not rule.permits("xminio.example.org", at("192.168.0.9"))
    assert rule.permits("x", at("fd12::1"))
    assert rule.names("10.20.0.7")
    assert not rule.names("x")


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "::1", "127.1"])
async def test_this_host_is_refused_however_it_is_written(host):
    with pytest.raises((NotAllowedError, UnavailableError)):
        await AddressRule().resolve(host, 443)


@pytest.mark.asyncio
async def test_an_allowed_host_is_resolved():
    assert await AddressRule(("127.0.0.1",)).resolve("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(NotAllowedError, match=r"custom_volumes\.allow"):
        await AddressRule().resolve("127.0.0.1", 80)
