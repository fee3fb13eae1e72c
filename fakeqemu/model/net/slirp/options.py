"""The addresses of a user-mode network, from the options of netdev `user`.

See net/slirp.c: net_slirp_init() and net_init_slirp().
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.model.net.sockets.addresses import inet_aton
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qapi.readers.scalars import c_int, digits
from fakeqemu.traits import Traits

_DEFAULT = ipaddress.IPv4Network("10.0.2.0/24")
#: (leading bits, how many, netmask's length) of networks given without a mask
_CLASSES = (
    (0, 1, 8),
    (0xAC1, 12, 12),
    (2, 2, 16),
    (0xC0A8, 16, 16),
    (0xC612, 16, 15),
    (7, 3, 24),
    (0, 0, 28),
)
#: what the addresses of host, DNS and DHCP end in unless they are given
_HOST, _DHCP, _DNS = 0x0202, 0x020F, 0x0203
_ALL_BITS = 0xFFFFFFFF
_NAME_LIMIT = 255
_PREFIX_LIMIT = 126
_DECIMAL = re.compile(r"\s*([+-]?)([0-9]+)")


@dataclass(frozen=True, slots=True)
class Network:
    """Where a user-mode network is; addresses as numbers."""

    address: ipaddress.IPv4Network
    host: int
    dns: int
    #: the first address that DHCP gives away: the guest's
    dhcp_start: int

    @classmethod
    def read(cls, options: dict[str, Any]) -> Network:
        """Read and check the options. Raises QapiError."""
        _check_families(options)
        network = _network(options)
        host = _address(options, "host", _HOST, network, "host")
        if not _belongs(host, network):
            raise QapiError("Host doesn't belong to network")
        dns = _address(options, "dns", _DNS, network, "DNS")
        if options.get("restrict") and not _belongs(dns, network):
            raise QapiError("DNS doesn't belong to network")
        if dns == host:
            raise QapiError("DNS must be different from host")
        dhcp = _address(options, "dhcpstart", _DHCP, network, "DHCP start address")
        if not _belongs(dhcp, network):
            raise QapiError("DHCP doesn't belong to network")
        if dhcp in (host, dns):
            raise QapiError("DHCP must be different from host and DNS")
        if "smbserver" in options and inet_aton(options["smbserver"]) is None:
            raise QapiError("Failed to parse SMB address")
        _check_ipv6(options)
        _check_names(options)
        return cls(network, host, dns, dhcp)


def expand_ipv6_net(
    pairs: tuple[tuple[str, str], ...], traits: Traits
) -> tuple[tuple[str, str], ...]:
    """`ipv6-net=PREFIX[/LENGTH]` of an option string as the two options it stands for.

    Raises QapiError. See net/net.c: net_client_init().
    """
    given = [value for key, value in pairs if key == "ipv6-net"]
    if not given:
        return pairs
    prefix, slash, length = given[-1].partition("/")
    if slash and not _DECIMAL.fullmatch(length):
        raise QapiError(traits.ipv6_net_length_text)
    rest = tuple(pair for pair in pairs if pair[0] != "ipv6-net")
    return (*rest, ("ipv6-prefix", prefix), ("ipv6-prefixlen", length or "64"))


def _check_families(options: dict[str, Any]) -> None:
    ipv4, ipv6 = options.get("ipv4"), options.get("ipv6")
    if ipv4 is False or (ipv6 and ipv4 is None):
        ipv4 = False
        if any(name in options for name in ("net", "ip", "host", "dns")):
            raise QapiError("IPv4 disabled but netmask/host/dns provided")
    if ipv6 is False or (options.get("ipv4") and ipv6 is None):
        if any(name in options for name in ("ipv6-prefix", "ipv6-host", "ipv6-dns")):
            raise QapiError("IPv6 disabled but prefix/host6/dns6 provided")
        if ipv4 is False:
            raise QapiError("IPv4 and IPv6 disabled")


def _network(options: dict[str, Any]) -> ipaddress.IPv4Network:
    text = options.get("net")
    if text is None:
        if "ip" not in options:
            return _DEFAULT
        text = f"{options['ip']}/24"
    address, slash, mask_text = text.partition("/")
    number = inet_aton(address)
    if number is None:
        raise QapiError("Failed to parse netmask")
    if not slash:
        bits = next(bits for start, size, bits in _CLASSES if number >> 32 - size == start)
        mask = _ALL_BITS << (32 - bits) & _ALL_BITS
    elif not mask_text or _DECIMAL.fullmatch(mask_text):
        bits = _length(mask_text)
        if not 4 <= bits <= 32:
            raise QapiError("Invalid netmask provided (must be in range 4-32)")
        mask = _ALL_BITS << (32 - bits) & _ALL_BITS
    else:
        found = inet_aton(mask_text)
        if found is None:
            raise QapiError("Failed to parse netmask (trailing chars)")
        mask = found
    bits = mask.bit_count()
    return ipaddress.IPv4Network((number & mask, bits), strict=False)


def _length(text: str) -> int:
    """The number that net/slirp.c: net_slirp_init() takes a mask's digits for."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return 0
    value = min(digits(match[2]) or 0, (1 << 63) - 1)
    return c_int(-value if match[1] == "-" else value)


def _address(
    options: dict[str, Any],
    name: str,
    ending: int,
    network: ipaddress.IPv4Network,
    what: str,
) -> int:
    """The address given as `name`, or the network's own. Raises QapiError."""
    if name not in options:
        return int(network.network_address) | ending & ~int(network.netmask) & _ALL_BITS
    number = inet_aton(options[name])
    if number is None:
        raise QapiError(f"Failed to parse {what}")
    return number


def _belongs(address: int, network: ipaddress.IPv4Network) -> bool:
    return address & int(network.netmask) == int(network.network_address)


def _check_ipv6(options: dict[str, Any]) -> None:
    prefix = _ipv6(options.get("ipv6-prefix", "fec0::"), "prefix")
    length = options.get("ipv6-prefixlen") or 64
    if not 0 <= length <= _PREFIX_LIMIT:
        raise QapiError(
            "Invalid IPv6 prefix provided (IPv6 prefix length must be between 0 and 126)"
        )
    hidden = 128 - length
    if "ipv6-host" in options and _ipv6(options["ipv6-host"], "host") >> hidden != (
        prefix >> hidden
    ):
        raise QapiError("IPv6 Host doesn't belong to network")
    if "ipv6-dns" in options:
        dns = _ipv6(options["ipv6-dns"], "DNS")
        if options.get("restrict") and dns >> hidden != prefix >> hidden:
            raise QapiError("IPv6 DNS doesn't belong to network")


def _ipv6(text: str, what: str) -> int:
    try:
        if "%" not in text:
            return int(ipaddress.IPv6Address(text))
    except ValueError:
        pass
    raise QapiError(f"Failed to parse IPv6 {what}")


def _check_names(options: dict[str, Any]) -> None:
    if options.get("domainname") == "":
        raise QapiError("'domainname' parameter cannot be empty")
    shown = {"domainname": "domainname", "hostname": "vhostname"}
    for name in ("domainname", "hostname", "tftp-server-name"):
        if len(c_bytes(options.get(name, ""))) > _NAME_LIMIT:
            raise QapiError(f"'{shown.get(name, name)}' parameter cannot exceed 255 bytes")
