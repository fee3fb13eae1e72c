"""Guest forwarding of user-mode networks: addresses in them that lead to a character device.

See net/slirp.c: slirp_guestfwd() and libslirp's slirp_add_guestfwd().
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.net.sockets.addresses import inet_aton
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.host import Host
    from fakeqemu.model.net.slirp.options import Network

#: what the address of a rule without one ends in
_SERVER = 0x0204
_PORTS = 65535
_COMMAND = "cmd:"
_CHARDEV = "chardev:"
_DECIMAL = re.compile(r"\s*[+-]?\d+")


class _Discard:
    """What comes from the device is dropped: nothing in the guest is connected."""

    can_hotswap = False

    def chr_opened(self) -> None:
        """A client is there."""

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Drop it."""

    def chr_closed(self) -> None:
        """The client has gone."""


class GuestForwards:
    """The rules of one network."""

    def __init__(self, network: Network, chardevs: Chardevs, host: Host) -> None:
        self._network = network
        self._chardevs = chardevs
        self._host = host
        self._made: list[str] = []

    def add(self, rule: str) -> None:
        """`tcp:[server]:port-dev` or `...-cmd:command`. Raises QapiError.

        A command would run when the guest connects, which it does not.
        """
        server, port, target = _parse(rule)
        if not target.startswith(_COMMAND):
            self._open(f"guestfwd.tcp.{port}", target)
        network = self._network
        if not server:
            mask = int(network.address.netmask)
            server = int(network.address.network_address) | _SERVER & ~mask
        inside = server & int(network.address.netmask) == int(network.address.network_address)
        if not inside or server in (network.host, network.dns):
            raise QapiError(
                f"Conflicting/invalid host:port in guest forwarding rule '{rule}'"
            )

    def close(self) -> None:
        """Remove the character devices."""
        for id in self._made:
            chardev = self._chardevs.get(id)
            if chardev is not None:
                chardev.detach()
                self._chardevs.drop(chardev)
        self._made.clear()

    def _open(self, label: str, text: str) -> None:
        failure = f"Could not open guest forwarding device '{label}'"
        if text.startswith(_CHARDEV):
            chardev = self._chardevs.get(text.removeprefix(_CHARDEV))
            try:
                if chardev is None:
                    raise QapiError(failure)
                chardev.attach(_Discard())
            except QapiError as error:
                raise QapiError(failure) from error
            # it goes with the network, as one of its own would
            self._made.append(chardev.id)
            return
        try:
            if label in self._chardevs:
                raise QapiError(
                    f"attempt to add duplicate property '{label}' to object (type 'container')"
                )
            self._chardevs.open_legacy(label, text)
        except QapiError as error:
            if error.desc:
                self._host.warn(error.desc)
            raise QapiError(failure) from error
        self._made.append(label)
        self._chardevs[label].attach(_Discard())


def _parse(rule: str) -> tuple[int, int, str]:
    """Server address as a number (0: none given), port and target. Raises QapiError."""
    wrong = QapiError(f"Invalid guest forwarding rule '{rule}'")
    protocol, colon, rest = rule.partition(":")
    if not colon or protocol not in ("tcp", ""):
        raise wrong
    text, colon, rest = rest.partition(":")
    server = inet_aton(text) if text else 0
    if not colon or server is None:
        raise wrong
    text, dash, target = rest.partition("-")
    if not dash or not _DECIMAL.fullmatch(text) or not 1 <= int(text) <= _PORTS:
        raise wrong
    return server, int(text), target
