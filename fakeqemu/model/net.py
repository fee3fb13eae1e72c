"""Network backends, hubs and the cards on them: who is connected to whom, and the links' state.

No packet ever moves and no host socket is opened for one; what a tool can see of a backend is
its name, its line in `info network` and what it is refused for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.model import hostforward, netcheck
from fakeqemu.model.device import DeviceObject
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: cards get these addresses when none is asked for, the last byte counting up
_MAC = "52:54:00:12:34:{:02x}"
_FIRST_MAC = 0x56


@dataclass(slots=True, eq=False)
class Backend:
    """One netdev."""

    id: str
    type: str
    options: dict[str, Any]
    peer: Nic | None = None
    #: False after set_link ... off
    link_up: bool = True
    #: lines that follow in info network
    info: str = ""
    #: the host forwarding rules of a user-mode network
    forwards: list[hostforward.Forward] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Nic:
    """One card."""

    device: DeviceObject
    name: str
    model: str
    mac: str
    peer: Backend | None = None
    link_up: bool = True
    #: whether query-rx-filter knows it
    rx_filter: bool = False


@dataclass(slots=True)
class Net:
    """All of it, of one machine."""

    vm: Machine
    backends: dict[str, Backend] = field(default_factory=dict)
    nics: list[Nic] = field(default_factory=list)
    #: numbers of hubs, in order of creation; a hub never goes away
    _hubs: list[int] = field(default_factory=list)
    #: ids that an option string gave, on the command line or in the human monitor: while such a
    #: backend lives, an option string cannot use its id again (net/net.c: net_client_init())
    option_ids: set[str] = field(default_factory=set)
    #: backends that were deleted under a card: the card's side still shows them
    _ghosts: list[Backend] = field(default_factory=list)

    # -- backends --------------------------------------------------------------------------

    def add(self, options: dict[str, Any], monitor: Any = None) -> Backend:
        """`-netdev`, netdev_add; `options` are checked against Netdev. Raises QapiError."""
        from fakeqemu.qapi.readers.qemu_opts import check_identifier

        id, type = options["id"], options["type"]
        check_identifier(id)
        if not netcheck.built_in(self.vm, type):
            raise QapiError(f"network backend '{type}' is not compiled into this binary")
        if id in self.backends or any(nic.name == id for nic in self.nics):
            raise QapiError(f"Duplicate ID '{id}'")
        inherited = type == "tap" and self._inherits(id, options)
        info = "" if inherited else netcheck.check(self.vm, options, monitor)
        if type == "tap":
            self._open_tap(id, options)
        rules = options.get("hostfwd", ()) if type == "user" else ()
        forwards = [hostforward.parse(rule["str"], self.vm.profile.traits) for rule in rules]
        backend = Backend(id, type, options, info=info, forwards=forwards)
        self.backends[id] = backend
        if type == "hubport" and options["hubid"] not in self._hubs:
            self._hubs.append(options["hubid"])
        return backend

    def _inherits(self, id: str, options: dict[str, Any]) -> bool:
        """Whether a TAP's descriptor comes from an old process. Raises QapiError."""
        fd = options.get("fd")
        if fd is None or not self.vm.cpr_is_incoming():
            return False
        self.vm.saved_fds.take(id, fd)
        return True

    def _open_tap(self, id: str, options: dict[str, Any]) -> None:
        """Open the host's device, unless it is to come with the migration. Raises QapiError."""
        fd = str(options.get("fd", ""))
        ifname = "" if fd else str(options.get("ifname", ""))
        self.vm.taps.create(self.vm, id, ifname, self.vm.read_parameter)
        if fd.isdigit() and self.vm.saved_fds.find(id) is None:
            self.vm.saved_fds.save(id, int(fd))

    def remove(self, id: str) -> None:
        """netdev_del; a card on it keeps its side. Raises QapiError."""
        backend = self.backends.get(id)
        if backend is None:
            if any(nic.name == id for nic in self.nics):
                raise QapiError(f"Device '{id}' is not a netdev")
            raise DeviceNotFoundError(texts.device_not_found(id))
        del self.backends[id]
        self.option_ids.discard(id)
        if backend.type == "tap":
            self.vm.taps.remove(id)
            self.vm.saved_fds.forget(id)
        if backend.peer is not None and self.vm.profile.traits.deleted_backend_shown:
            self._ghosts.append(backend)
        for filter in self.vm.objects.filters_of(id):
            self.vm.objects.drop(filter)

    # -- cards -----------------------------------------------------------------------------

    def add_nic(self, device: DeviceObject, holder: DeviceObject) -> None:
        """A card has come; `holder` has its properties."""
        mac = holder.values.get("mac", "") if "mac" in device.given else self._next_mac()
        for obj in (device, holder):
            if "mac" in obj.shapes:
                obj.values["mac"] = mac
        backend = self.backends.get(holder.values.get("netdev") or "")
        model = device.type
        nic = Nic(device, device.id or self._name(model), model, mac, backend)
        nic.rx_filter = self.vm.profile.is_a(holder.type, "virtio-net-device")
        if backend is not None:
            backend.peer = nic
        self.nics.insert(0, nic)

    def remove_nic(self, device: DeviceObject) -> None:
        """A card has gone."""
        for nic in [nic for nic in self.nics if nic.device is device]:
            self.nics.remove(nic)
            if nic.peer is not None:
                nic.peer.peer = None
                if nic.peer in self._ghosts:
                    self._ghosts.remove(nic.peer)

    def _next_mac(self) -> str:
        used = {nic.mac for nic in self.nics}
        return next(
            mac for n in range(_FIRST_MAC, 256) if (mac := _MAC.format(n)) not in used
        )

    def _name(self, model: str) -> str:
        taken = {nic.name for nic in self.nics}
        number = 0
        while f"{model}.{number}" in taken:
            number += 1
        return f"{model}.{number}"

    # -- links -----------------------------------------------------------------------------

    def set_link(self, name: str, up: bool) -> None:
        """set_link of a card or a backend. Raises QapiError."""
        nic = next((nic for nic in self.nics if nic.name == name), None)
        if nic is not None:
            nic.link_up = up
            return
        backend = self.backends.get(name)
        if backend is None:
            raise DeviceNotFoundError(texts.device_not_found(name))
        backend.link_up = up
        if backend.peer is not None:
            backend.peer.link_up = up

    def rx_filter(self, name: str | None) -> list[dict[str, Any]]:
        """query-rx-filter. Raises QapiError."""
        if name is None:
            return [self._filter(nic) for nic in self.nics if nic.rx_filter]
        nic = next((nic for nic in self.nics if nic.name == name), None)
        if nic is None:
            if name in self.backends:
                raise QapiError(f"net client({name}) isn't a NIC")
            raise QapiError(f"invalid net client name: {name}")
        if not nic.rx_filter:
            raise QapiError(f"net client({name}) doesn't support rx-filter querying")
        return [self._filter(nic)]

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

    # -- info network ----------------------------------------------------------------------

    def info(self) -> str:
        """What `info network` prints: hubs, then cards, then backends without a card."""
        lines: list[str] = []
        for number in reversed(self._hubs):
            lines.append(f"hub {number}")
            for port in (*self._ghosts, *reversed(self.backends.values())):
                if port.type == "hubport" and port.options["hubid"] == number:
                    end = f": {self._nic(port.peer)}" if port.peer is not None else ""
                    lines.append(f" \\ {port.id}{end}")
        for nic in reversed(self.nics):
            if nic.peer is not None and nic.peer.type == "hubport":
                continue
            lines.append(self._nic(nic))
            if nic.peer is not None:
                lines.append(f" \\ {self._backend(nic.peer)}")
        lines += [
            self._backend(backend)
            for backend in self.backends.values()
            if backend.peer is None and backend.type != "hubport"
        ]
        return "".join(line + "\n" for line in lines)

    @staticmethod
    def _nic(nic: Nic) -> str:
        return f"{nic.name}: index=0,type=nic,model={nic.model},macaddr={nic.mac}"

    def _backend(self, backend: Backend) -> str:
        lines = [f"{backend.id}: index=0,type={backend.type},{backend.info}"]
        filters = self.vm.objects.filters_of(backend.id)
        if filters:
            lines.append("filters:")
        for each in filters:
            # qom-list shows them the other way round
            shown = [name for name in reversed(each.shapes) if name != "type"]
            values = "".join(f",{name}={_text(each.get(name))}" for name in shown)
            lines.append(f"  - {each.name}: type={each.type}{values}")
        return "\n".join(lines)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
