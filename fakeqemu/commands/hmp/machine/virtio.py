"""Virtio devices and cryptographic backends in the human monitor.

See hw/virtio/virtio-hmp-cmds.c: hmp_virtio_query() and hmp_virtio_status();
backends/cryptodev-hmp-cmds.c: hmp_info_cryptodev().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.commands.machine import virtio
from fakeqemu.commands.registry import COMMANDS
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError


@hmp("info virtio")
def info_virtio(vm: Machine) -> str:
    """The devices, each with its path."""
    devices = virtio.query_virtio(vm)
    if not devices:
        return "No VirtIO devices\n"
    return "".join(f"{each['path']} [{each['name']}]\n" for each in devices)


@hmp("info cryptodev")
def info_cryptodev(vm: Machine) -> str:
    """The backends, with what they can do."""
    lines = []
    for each in virtio.query_cryptodev(vm):
        lines.append(f"{each['id']}: service=[{'|'.join(each['service'])}]")
        lines += [f"    queue {one['queue']}: type={one['type']}" for one in each["client"]]
    return "".join(f"{line}\n" for line in lines)


def _of_device(name: str) -> None:
    @hmp(f"info virtio-{name}")
    def show(vm: Machine, path: str, **more: Any) -> str:
        function = COMMANDS[f"x-query-virtio-{name}"].function
        assert function is not None
        function(vm, path=path, **more)
        raise NotModelledError(f"info virtio-{name}")


for _name in ("status", "queue-status", "vhost-queue-status", "queue-element"):
    _of_device(_name)
