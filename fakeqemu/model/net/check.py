"""Warnings after machine creation: net clients without a peer, NICs that were not created.

See net/net.c: net_check_clients() and net/hub.c: net_hub_check_clients().
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass

if TYPE_CHECKING:
    from fakeqemu.model.net.client import Hub, NetClient

#: clients that lead to the host
_HOST_TYPES = frozenset({"user", "tap", "socket", "stream", "dgram", "vde", "vhost-user"})


@dataclass(slots=True)
class NicConfig:
    """A NIC that -nic or -net asks of the board: NICInfo."""

    #: None for one of -nic
    name: str | None
    #: None: what the board has by default
    model: str | None
    mac: str
    #: the client it is to be connected to
    netdev: str
    #: where on its bus
    address: str | None = None
    vectors: int | None = None
    #: whether the board has made it
    made: bool = False


def warnings(
    hubs: Iterable[Hub],
    clients: Iterable[NetClient],
    nic_configs: Iterable[NicConfig],
    *,
    test: bool,
) -> Iterator[str]:
    """The warnings, in order; `test`: accelerator qtest, which is used without a host."""
    for hub in hubs:
        yield from _hub_warnings(hub, test=test)
    for client in clients:
        if client.peer is None:
            kind = "nic" if client.type == "nic" else "netdev"
            yield f"{kind} {client.name} has no peer"
    for config in nic_configs:
        if not config.made:
            yield (
                f"requested NIC ({config.name or 'anonymous'}, model"
                f" {config.model or 'unspecified'}) was not created"
                " (not supported by this machine?)"
            )


def _hub_warnings(hub: Hub, *, test: bool) -> Iterator[str]:
    peers: set[str] = set()
    for port in hub.ports:
        if port.peer is None:
            yield f"hub port {port.name} has no peer"
        else:
            peers.add(port.peer.type)
    has_host, has_nic = bool(peers & _HOST_TYPES), "nic" in peers
    if has_host and not has_nic:
        yield f"hub {hub.id} with no nics"
    if has_nic and not has_host and not test:
        yield f"hub {hub.id} is not connected to host network"
