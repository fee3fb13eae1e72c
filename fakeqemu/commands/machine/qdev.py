"""Commands of QAPI's qdev and net modules: devices, network backends, links.

See system/qdev-monitor.c: qmp_device_add() and qmp_device_del(); net/net.c: qmp_netdev_add(),
qmp_set_link() and qmp_query_rx_filter().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.readers.qemu_opts import check_identifier

Json = dict[str, Any]


@command("device_add", raw=True)
def device_add(vm: Machine, arguments: Json) -> None:
    """Plug a device."""
    if vm.profile.traits.device_add_as_options:
        vm.devices.create(as_texts(arguments), typed=False)
    else:
        vm.devices.create(arguments, typed=True)


def as_texts(options: Json) -> Json:
    """Arguments as an option string would have them; objects, lists and null fall away."""
    found: Json = {}
    if not isinstance(options.get("id"), str):
        options = {name: value for name, value in options.items() if name != "id"}
    for name, value in options.items():
        if isinstance(value, bool):
            found[name] = "on" if value else "off"
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, int | float):
            found[name] = str(value) if isinstance(value, int) else f"{value:.17g}"
    id = found.get("id")
    if id is not None:
        check_identifier(id)
    return found


@command("device_del")
def device_del(vm: Machine, id: str) -> None:
    """Take a device out, or ask the guest to let it go."""
    vm.devices.remove(id)


@command("netdev_add", monitor=True, raw=True)
def netdev_add(vm: Machine, arguments: Json, monitor: Any = None) -> None:
    """Make a network backend."""
    vm.net.add(arguments, monitor)


@command("netdev_del")
def netdev_del(vm: Machine, id: str) -> None:
    """Take a network backend away."""
    vm.net.remove(id)


@command("set_link")
def set_link(vm: Machine, name: str, up: bool) -> None:
    """Pull a network cable, or put it back."""
    vm.net.set_link(name, up)


@command("query-rx-filter")
def query_rx_filter(vm: Machine, name: str | None = None) -> list[Json]:
    """RxFilterInfo list."""
    return vm.net.rx_filter(name)
