"""Commands of QAPI's char and yank modules.

See qapi/char.json; qapi/yank.json; chardev/char.c: qmp_chardev_add() and qmp_query_chardev();
util/yank.c: qmp_yank().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.chardev import ringbuf
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError

Json = dict[str, Any]


@command("query-chardev")
def query_chardev(vm: Machine) -> list[Json]:
    """ChardevInfo list."""
    return [
        {"label": each.id, "filename": each.filename, "frontend-open": each.frontend_open}
        for each in reversed(vm.chardevs.walked())
    ]


def _options(vm: Machine, id: str, backend: Json, monitor: Any) -> ChardevOptions:
    data = dict(backend.get("data") or {})
    address = data.get("addr", {})
    if backend["type"] == "socket" and address.get("type") == "fd":
        vm.chardevs.check(ChardevOptions(id, "socket", data))
        # over QMP a descriptor is one that this monitor got by getfd, whatever its name looks like
        fd = vm.named_fds.of(monitor).take(address["data"]["str"])
        data["addr"] = {"type": "fd", "data": {**address["data"], "number": fd}}
    return ChardevOptions(id, backend["type"], data)


@command("chardev-add", monitor=True)
def chardev_add(vm: Machine, id: str, backend: Json, monitor: Any = None) -> Json:
    """ChardevReturn."""
    if id in vm.chardevs:
        raise QapiError(f"Chardev with id '{id}' already exists")
    try:
        return _returned(vm.chardevs.add(_options(vm, id, backend, monitor)))
    except NotModelledError:
        raise
    except QapiError as error:
        raise error.prefixed(f"Failed to add chardev '{id}': ") from None


@command("chardev-change", monitor=True)
def chardev_change(vm: Machine, id: str, backend: Json, monitor: Any = None) -> Json:
    """ChardevReturn."""
    return _returned(vm.chardevs.change(id, lambda: _options(vm, id, backend, monitor)))


def _returned(chardev: Chardev) -> Json:
    name = chardev.filename
    return {"pty": name.removeprefix("pty:")} if name.startswith("pty:") else {}


@command("chardev-send-break")
def chardev_send_break(vm: Machine, id: str) -> None:
    """Send a break, which no modelled device handles."""
    if id not in vm.chardevs:
        raise QapiError(f"Chardev '{id}' not found")


@command("ringbuf-write")
def ringbuf_write(vm: Machine, device: str, data: str, format: str = "utf8") -> None:
    """Write into a ring buffer."""
    ringbuf.ringbuf_write(vm.chardevs.ringbuf(device), data, format)


@command("ringbuf-read")
def ringbuf_read(vm: Machine, device: str, size: int, format: str = "utf8") -> str:
    """Read from a ring buffer."""
    return ringbuf.ringbuf_read(vm.chardevs.ringbuf(device), size, format)

actions(
    {
        "chardev-remove": lambda vm, id: vm.chardevs.remove(id),
        "yank": lambda vm, instances: vm.yank.yank(instances),
    }
)

commands({"query-yank": lambda vm: vm.yank.instances()})
