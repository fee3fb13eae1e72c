"""Commands of QAPI's block-export module: the NBD server and what it serves.

See qapi/block-export.json; block/export/export.c: qmp_block_export_add(); blockdev-nbd.c:
qmp_nbd_server_start().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError

Json = dict[str, Any]


@command("nbd-server-start", raw=True, monitor=True)
def nbd_server_start(vm: Machine, arguments: Json, monitor: Any) -> None:
    """Listen for clients."""
    addr = arguments["addr"]
    vm.block.exports.start(
        server_address(vm, monitor, {"type": addr["type"], **addr.get("data", {})}),
        arguments.get("tls-creds"),
        most_clients=arguments.get("max-connections"),
        handshake_seconds=arguments.get("handshake-max-seconds"),
    )


def server_address(vm: Machine, monitor: Any, address: Json) -> Json:
    """Where to listen; a descriptor is one the monitor has by name. Raises QapiError."""
    if address["type"] != "fd":
        return address
    return {**address, "number": vm.named_fds.of(monitor).take(address["str"])}


@command("nbd-server-add", raw=True)
def nbd_server_add(vm: Machine, arguments: Json) -> None:
    """Export a node or device."""
    device = arguments["device"]
    name = arguments.get("name", device)
    node = vm.block.graph.lookup(device, device)
    more = {k: v for k, v in arguments.items() if k in ("description", "bitmap")}
    if "bitmap" in more:
        more["bitmaps"] = [more.pop("bitmap")]
    export = vm.block.exports.add(
        {
            **more,
            "type": "nbd",
            "id": name,
            "node-name": node.name,
            "name": name,
            "writable": arguments.get("writable", False) and not node.read_only,
        }
    )
    backend = vm.block.backends.named.get(device)
    if backend is not None:
        vm.block.exports.follow(export, backend)


@command("nbd-server-remove")
def nbd_server_remove(vm: Machine, name: str, mode: str = "safe") -> None:
    """Export a node no more."""
    exports = vm.block.exports
    export = exports.get(name)
    if export.type != "nbd":
        raise QapiError(f"Block export '{name}' is not an NBD export")
    exports.remove(export, mode)


@command("block-export-del")
def block_export_del(vm: Machine, id: str, mode: str = "safe") -> None:
    """Export it no more."""
    exports = vm.block.exports
    exports.remove(exports.get(id), mode)

actions({"nbd-server-stop": lambda vm: vm.block.exports.stop()})

actions({"block-export-add": lambda vm, arguments: vm.block.exports.add(arguments)}, raw=True)

commands({"query-block-exports": lambda vm: [export.info() for export in vm.block.exports.all]})
