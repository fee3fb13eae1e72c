"""Virtio devices as QMP shows them, and cryptographic backends for them.

See hw/virtio/virtio-qmp.c: qmp_x_query_virtio() and qmp_x_query_virtio_status();
backends/cryptodev.c: qmp_query_cryptodev() and cryptodev_backend_stats_query();
stats/stats-qmp-cmds.c: qmp_query_stats().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.model.qom.tree import QomObject

Json = dict[str, Any]

_BUILTIN = "cryptodev-backend-builtin"
#: what a builtin backend counts, the last one first
_COUNTED = ("sym-decrypt-bytes", "sym-encrypt-bytes", "sym-decrypt-ops", "sym-encrypt-ops")
#: devices whose name is not that of their type
_NAMES = {"virtio-input-device": "virtio-input", "virtio-gpu-base": "virtio-gpu"}


@command("x-query-virtio")
def query_virtio(vm: Machine) -> list[Json]:
    """VirtioInfo list."""
    in_tree = vm.profile.traits.virtio_found_in_tree
    objects = _walk(vm.qom.root) if in_tree else sorted(vm.qom.root.walk(), key=_number)
    found = [
        {"path": obj.path, "name": _name(vm, obj)}
        for obj in objects
        if vm.profile.is_a(obj.type, "virtio-device")
    ]
    if not found and in_tree:
        raise QapiError("No virtio devices found")
    return found[::-1]


def _number(obj: QomObject) -> int:
    return int(getattr(obj.parent, "number", 0))


def _walk(obj: QomObject) -> Iterator[QomObject]:
    """What is below, in the order of the tables of names."""
    for name in obj.walked():
        child = obj.children[name]
        yield child
        yield from _walk(child)


def _name(vm: Machine, obj: QomObject) -> str:
    """What the specification calls the device. See hw/virtio/virtio.c: virtio_device_names."""
    for kind, name in _NAMES.items():
        if kind in vm.profile.qom_types and vm.profile.is_a(obj.type, kind):
            return name
    return obj.type.removesuffix("-device").replace("vhost-user-", "virtio-").replace(
        "vhost-scsi", "virtio-scsi"
    )


def _of_device(name: str, refusal: str | None) -> None:
    @command(name)
    def query(vm: Machine, path: str, **_: Any) -> None:
        """Nobody has set up the device's queues."""
        obj = vm.qom.at(path) if path.startswith("/") else None
        if obj is None or not vm.profile.is_a(obj.type, "virtio-device"):
            text = refusal or vm.profile.traits.not_a_virtio_device
            raise QapiError(f"Path {path} is not a {text}")
        raise NotModelledError(name)


_of_device("x-query-virtio-status", None)
_of_device("x-query-virtio-queue-status", "VirtIODevice")
_of_device("x-query-virtio-vhost-queue-status", "VirtIODevice")
_of_device("x-query-virtio-queue-element", "VirtIO device")


@command("query-cryptodev")
def query_cryptodev(vm: Machine) -> list[Json]:
    """QCryptodevInfo list."""
    backends = {
        each.name: each
        for each in vm.objects.all()
        if vm.profile.is_a(each.type, "cryptodev-backend")
    }
    found = []
    order = [name for name in vm.qom.container("/objects").walked() if name in backends]
    for name in reversed(order):
        if backends[name].type != _BUILTIN:
            raise NotModelledError("query-cryptodev")
        services = ["mac", "hash", "cipher"]
        found.append(
            {"id": name, "service": services, "client": [{"queue": 0, "type": "builtin"}]}
        )
    return found


@command("query-stats")
def query_stats(
    vm: Machine, target: str, providers: list[Json] | None = None, **_: Any
) -> list[Json]:
    """StatsResult list. KVM's are not there, since it is never in use; cryptodev's are all or none.

    A provider that is asked twice answers twice.
    """
    requests = [{"provider": "cryptodev"}] if providers is None else providers
    asked = [r for r in requests if r["provider"] == "cryptodev" and r.get("names") != []]
    if target != "cryptodev":
        return []
    stats = [{"name": name, "value": 0} for name in _COUNTED]
    return [
        {"provider": "cryptodev", "qom-path": f"/objects/{backend['id']}", "stats": stats}
        for _request in asked
        for backend in query_cryptodev(vm)
    ]
