"""Which addresses are of a machine and its own network: a table."""

import pytest

from authpool.config.local_address import is_local_address

LOCAL = (
    "127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254",
    "169.254.170.2 100.64.0.1 100.100.100.200 192.0.0.192 168.63.129.16 198.18.0.1 224.0.0.1 239.255.255.250",
    "240.0.0.1 255.255.255.255",
    "::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 fd20:ce::254 fec0::1 ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe 64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b:1::1 64:ff9b:1:ffff::8.8.8.8 ::127.0.0.1",
    "::ffff:0:7f00:1",
    "2002:7f00:1::1 2002:808:808::1 2001::1 2001:db8::1 100::1 5f00::1 192.88.99.1 [::1] [fe80::1]",
    "127.1 2130706433 0x7f.1 localhost example.com",
)
ELSEWHERE = (
    "8.8.8.8 1.1.1.1 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.1 169.253.0.1 192.167.0.1 223.255.255.255",
    "2606:4700:4700::1111 [2606:4700:4700::1111] 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808",
)


@pytest.mark.parametrize("text", " ".join(LOCAL).split())
def test_local(text: str) -> None:
    """Also inside of an IPv6 address that stands for an IPv4 one, and what is no address in the one usual form."""
    assert is_local_address(text)


@pytest.mark.parametrize("text", " ".join(ELSEWHERE).split())
def test_elsewhere(text: str) -> None:
    """The neighbours of those ranges among them."""
    assert not is_local_address(text)
