"""Commands of QAPI's qdev and net modules: devices, network backends, links.

See system/qdev-monitor.c: qmp_device_add() and qmp_device_del(); net/net.c: qmp_netdev_add(),
qmp_set_link() and qmp_query_rx_filter().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.readers.qemu_opts import check_identifier

Json = dict[str, Any]


@command("device_add", raw=True, monitor=True)
def device_add(vm: Machine, arguments: Json, monitor: Any = None) -> None:
    """Plug a device."""
    if vm.profile.traits.device_add_as_options:
        vm.devices.create(as_texts(arguments), typed=False, monitor=monitor)
    else:
        vm.devices.create(arguments, typed=True, monitor=monitor)


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


actions(
    {
        "device_del": lambda vm, id: vm.devices.remove(id),
        "netdev_del": lambda vm, id: vm.net.remove(id),
        "set_link": lambda vm, name, up: vm.net.set_link(name, up),
    }
)

actions(
    {
        "netdev_add": lambda vm, arguments, monitor=None: vm.net.add(arguments, monitor),
    },
    monitor=True,
    raw=True,
)

commands({"query-rx-filter": lambda vm, name=None: vm.net.rx_filter(name)})
