"""All net clients of a machine: who is connected to whom, and what tools can ask of it.

See net/net.c and net/net-hmp-cmds.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fakeqemu.model.net.check import NicConfig
from fakeqemu.model.net.client import Hub, HubPort, NetClient, Nic
from fakeqemu.model.net.filters import Filters
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError
from fakeqemu.qapi.readers.qemu_opts import check_identifier

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.net.announce import Announcements
    from fakeqemu.model.net.descriptors import BackendDescriptors
    from fakeqemu.model.net.macs import MacAddresses
    from fakeqemu.model.net.slirp.slirp import UserNet
    from fakeqemu.model.net.tap import Taps
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.runstate import RunState


class Net:
    """The net clients of one machine."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        chardevs: Chardevs,
        *,
        lifecycle: Lifecycle,
        migration: CurrentMigration,
        objects: Objects,
        taps: Taps,
        descriptors: BackendDescriptors,
    ) -> None:
        self.process = process
        self.chardevs = chardevs
        self.lifecycle = lifecycle
        self.migration = migration
        self.taps = taps
        self.descriptors = descriptors
        self._runstate = runstate
        self._objects = objects
        #: in order of creation
        self.clients: list[NetClient] = []
        #: the newest first
        self.hubs: list[Hub] = []
        #: the NICs that the board is to make
        self.nic_configs: list[NicConfig] = []
        self._generated = 0
        #: ids that an option string gave, on the command line or in the human monitor: while such
        #: a backend lives, an option string cannot use its id again (net_client_init())
        self.option_ids: set[str] = set()
        self.filters = Filters(process, chardevs, objects, lambda: self.backends)
        runstate.listen(self._runstate_changed)

    @cached_property
    def macs(self) -> MacAddresses:
        """The addresses that NICs have."""
        from fakeqemu.model.net.macs import MacAddresses

        return MacAddresses()

    @property
    def running(self) -> bool:
        """Whether frames move."""
        return self._runstate.running

    def keep_in_filter(self, sender: NetClient, peer: NetClient, frame: bytes) -> bool:
        """Show a frame to the filters on its way; True if one has kept it."""
        return self.filters.take(sender, peer, frame)

    @property
    def backends(self) -> dict[str, NetClient]:
        """Clients that are no NICs, by name."""
        return {each.name: each for each in self.clients if each.type != "nic"}

    @property
    def nics(self) -> list[Nic]:
        """NICs in order of creation."""
        return [each for each in self.clients if isinstance(each, Nic)]

    def user_nets(self) -> list[UserNet]:
        """User-mode networks in order of creation, with those a NIC holds after netdev_del."""
        from fakeqemu.model.net.slirp.slirp import UserNet

        held = [each.peer for each in self.nics if each.peer_deleted]
        keep = held if self.process.profile.traits.deleted_backend_lives_on else []
        return [each for each in (*keep, *self.clients) if isinstance(each, UserNet)]

    # -- backends --------------------------------------------------------------------------

    def generate_id(self) -> str:
        """An id for a backend without one. See util/id.c: id_generate()."""
        number, self._generated = self._generated, self._generated + 1
        return f"#net{number}{number * 37 % 100:02d}"

    def add(
        self,
        options: dict[str, Any],
        monitor: Any = None,
        *,
        peer: NetClient | None = None,
        generated: bool = False,
    ) -> NetClient:
        """`-netdev`, netdev_add; `options` are checked against Netdev. Raises QapiError.

        `peer` is what -net connects it to; `generated`: the id is from `generate_id`.
        """
        # few machines without devices ask for one
        from fakeqemu.model.net import backends

        id, type = options["id"], options["type"]
        if peer is None and not generated:
            check_identifier(id)
        if not backends.built_in(self.process.profile, type):
            raise QapiError(f"network backend '{type}' is not compiled into this binary")
        if id in self.backends:
            raise QapiError(f"Duplicate ID '{id}'")
        client = backends.create(self, options, monitor)
        client.is_netdev = peer is None
        self.clients.append(client)
        if peer is not None:
            client.connect(peer)
        return client

    def add_hub_port(self, number: int, name: str | None = None) -> HubPort:
        """A port of hub `number`, which is made if it is the first."""
        hub = next((each for each in self.hubs if each.id == number), None)
        if hub is None:
            hub = Hub(number)
            self.hubs.insert(0, hub)
        return hub.add_port(self, name)

    def remove(self, id: str) -> None:
        """netdev_del; a NIC on it keeps its side. Raises QapiError."""
        client = self.backends.get(id)
        if client is None:
            raise DeviceNotFoundError(texts.device_not_found(id))
        if not client.is_netdev:
            raise QapiError(f"Device '{id}' is not a netdev")
        self._delete(client)

    def _delete(self, client: NetClient) -> None:
        """See net/net.c: qemu_del_net_client()."""
        for filter in self._objects.filters_of(client.name):
            self._objects.drop(filter)
        self.clients.remove(client)
        self.option_ids.discard(client.name)
        if client.type == "tap":
            self.taps.remove(client.name)
            self.descriptors.saved.forget(client.name)
        if not isinstance(client.peer, Nic):
            client.cleanup()
            self._part(client)
            return
        client.peer.peer_deleted = True
        client.peer.link_down = True
        if not self.process.profile.traits.deleted_backend_lives_on:
            client.cleanup()

    @staticmethod
    def _part(client: NetClient) -> None:
        if client.peer is not None:
            client.peer.peer = None
            client.peer = None

    def close(self) -> None:
        """The process ends: give all sockets back. See net/net.c: net_cleanup()."""
        if self.process.profile.traits.deleted_backend_lives_on:
            for nic in self.nics:
                if nic.peer_deleted and nic.peer is not None:
                    nic.peer.cleanup()
        for client in self.clients:
            client.cleanup()
        self.clients.clear()
        self.taps.close()

    # -- NICs ------------------------------------------------------------------------------

    def add_nic(self, device: DeviceObject, holder: DeviceObject) -> None:
        """A card has been realized; `holder` has its properties."""
        given = holder.values.get("mac", "") if "mac" in device.given else ""
        mac = self.macs.take(given)
        for obj in (device, holder):
            if "mac" in obj.shapes:
                obj.values["mac"] = mac
        backend = self.backends.get(holder.values.get("netdev") or "")
        nic = Nic(self, device, device.id or self._name(device.type), mac)
        nic.rx_filter = self.process.profile.is_a(holder.type, "virtio-net-device")
        if backend is not None:
            nic.connect(backend)
        self.clients.append(nic)
        if backend is not None and self.process.phases.ready:
            backend.nic_was_reset()

    def remove_nic(self, device: DeviceObject) -> None:
        """A card has gone. See net/net.c: qemu_del_nic()."""
        for nic in [nic for nic in self.nics if nic.device is device]:
            self.clients.remove(nic)
            self.macs.release(nic.mac)
            lives_on = nic.peer_deleted and self.process.profile.traits.deleted_backend_lives_on
            if lives_on and nic.peer is not None:
                nic.peer.cleanup()
            self._part(nic)

    def _name(self, model: str) -> str:
        """See net/net.c: assign_name()."""
        return f"{model}.{sum(each.model == model for each in self.clients)}"

    # -- links -----------------------------------------------------------------------------

    def set_link(self, name: str, up: bool) -> None:
        """set_link of a NIC or a backend. Raises QapiError."""
        client = next((each for each in self.clients if each.name == name), None)
        if client is None:
            raise DeviceNotFoundError(texts.device_not_found(name))
        client.link_down = not up
        if isinstance(client.peer, Nic):
            client.peer.link_down = not up

    @cached_property
    def announcements(self) -> Announcements:
        """Made when first asked for, as few ask."""
        from fakeqemu.model.net.announce import Announcements

        return Announcements(self.process.clock, lambda: self.nics)

    def announce(self, parameters: Mapping[str, Any]) -> None:
        """Let the NICs announce their addresses as AnnounceParameters say."""
        self.announcements.start(parameters)

    def rx_filter(self, name: str | None) -> list[dict[str, Any]]:
        """query-rx-filter. Raises QapiError."""
        if name is None:
            return [self._filter(nic) for nic in self.nics if nic.rx_filter]
        client = next((each for each in self.clients if each.name == name), None)
        if client is None:
            raise QapiError(f"invalid net client name: {name}")
        if not isinstance(client, Nic):
            raise QapiError(f"net client({name}) isn't a NIC")
        if not client.rx_filter:
            raise QapiError(f"net client({name}) doesn't support rx-filter querying")
        return [self._filter(client)]

    @staticmethod
    def _filter(nic: Nic) -> dict[str, Any]:
        return {
            "promiscuous": True,
            "name": nic.name,
            "main-mac": nic.mac,
            "unicast": "normal",
            "broadcast-allowed": False,
            "multicast": "normal",
            "multicast-overflow": False,
            "unicast-overflow": False,
            "vlan": "all",
            "vlan-table": list(range(4095, -1, -1)),
            "unicast-table": [],
            "multicast-table": [],
        }

    def _runstate_changed(self, _old: str, _new: str) -> None:
        """Deliver what waits, or drop it. See net/net.c: net_vm_change_state_handler()."""
        for client in tuple(self.clients):
            if not self.running:
                client.flush(purge=True)
            elif client.peer is not None and client.can_send():
                client.peer.flush()

    # -- info network ----------------------------------------------------------------------

    def info(self) -> str:
        """What `info network` prints: hubs, then NICs and backends without one."""
        lines: list[str] = []
        for hub in self.hubs:
            lines.append(f"hub {hub.id}")
            for port in hub.ports:
                end = f": {self._line(port.peer)}" if port.peer is not None else ""
                lines.append(f" \\ {port.name}{end}")
        for client in self.clients:
            if isinstance(client, HubPort) or isinstance(client.peer, HubPort):
                continue
            if client.type == "nic" or client.peer is None:
                lines.append(self._line(client))
            if client.type == "nic" and client.peer is not None:
                lines.append(f" \\ {self._line(client.peer)}")
        return "".join(line + "\n" for line in lines)

    def _line(self, client: NetClient) -> str:
        lines = [f"{client.name}: index=0,type={client.type},{client.info}"]
        filters = [] if client.type == "nic" else self._objects.filters_of(client.name)
        if filters:
            lines.append("filters:")
        for each in filters:
            # qom-list shows them the other way round
            shown = [name for name in reversed([*each.shapes]) if name != "type"]
            values = "".join(f",{name}={_text(each.get(name))}" for name in shown)
            lines.append(f"  - {each.name}: type={each.type}{values}")
        return "\n".join(lines)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
