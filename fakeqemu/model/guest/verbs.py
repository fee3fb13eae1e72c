"""What a guest can be told to do, by verb: the table for testers and their tools.

See hw/acpi/core.c: acpi_pm1_evt_power_down(); hw/virtio/virtio-balloon.c:
virtio_balloon_to_target().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass, field
from fakeqemu.model.guest.guest import CHOICES
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qapi.readers.scalars import parse_size
from fakeqemu.traits import Traits

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


@dataclass(frozen=True, slots=True)
class GuestAction:
    """One thing a guest does by itself."""

    #: for people
    does: str
    function: Callable[..., object]
    #: parameter -> kind: "text", "size" (bytes, "64M"), "number", "bytes", "int"
    parameters: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()


#: seconds or a share: what a clock can count
_LARGEST_NUMBER = (1 << 63) // SECOND

_MANNERS = {name: "number" if choices is None else "text" for name, choices in CHOICES.items()}


def do(vm: Machine, verb: str, parameters: Mapping[str, Any] | None = None) -> None:
    """Let the guest do something. Raises LookupError for an unknown verb, ValueError, QapiError.

    `parameters` are those of the verb, with `-` or `_` in their names.
    """
    known = VERBS[verb]
    given = {name.replace("-", "_"): value for name, value in (parameters or {}).items()}
    for name, value in given.items():
        if name not in known.parameters:
            takes = ", ".join(known.parameters) or "nothing"
            raise ValueError(f"guest verb '{verb}' has no '{name}' (it takes {takes})")
        given[name] = _checked(name, value, known.parameters[name])
    for name in known.needed:
        if name not in given:
            raise ValueError(f"guest verb '{verb}' needs '{name}'")
    vm.journal.note("guest", verb, **given)
    known.function(vm, **given)


def _dirty_memory(vm: Machine, rate: int, working_set: int | None = None) -> None:
    if vm.migration.object is None:
        raise QapiError("the machine is not there yet")
    vm.migration.object.guest_dirties(rate, working_set)


def _write_disk(vm: Machine, **given: Any) -> None:
    # a machine whose guest writes nothing does without the block layer
    from fakeqemu.model.guest.disks import write_disk

    write_disk(vm.block, **given)


def _read_disk(vm: Machine, **given: Any) -> None:
    from fakeqemu.model.guest.disks import read_disk

    read_disk(vm.block, **given)


def _program(vm: Machine, path: str, **given: Any) -> None:
    from fakeqemu.model.guest.agent_commands import Program

    if given.get("seconds", 0) < 0:
        raise ValueError("seconds is not negative")
    vm.guest.agent.programs[path] = Program(**given)


#: what a guest may be told to do
VERBS: Mapping[str, GuestAction] = {
    "behave": GuestAction(
        "React so to what the host asks; `delay` in seconds of time in which the guest runs.",
        lambda vm, **manners: vm.guest.behave(**manners), _MANNERS,
    ),
    "shutdown": GuestAction("Turn itself off.", lambda vm: vm.guest.shutdown()),
    "reset": GuestAction("Reset itself.", lambda vm: vm.guest.restart()),
    "panic": GuestAction("Panic.", lambda vm: vm.lifecycle.guest_panicked()),
    "crash-loaded": GuestAction(
        "Panic with a crash kernel loaded: GUEST_CRASHLOADED.",
        lambda vm: vm.events.emit("GUEST_CRASHLOADED", {"action": "run"}),
    ),
    "suspend": GuestAction("Go to sleep in S3.", lambda vm: vm.lifecycle.suspend()),
    "hibernate": GuestAction(
        "Go to sleep in S4: SUSPEND_DISK, then off.", lambda vm: vm.guest.hibernate()
    ),
    "wakeup": GuestAction("Be woken by a device of its own.", lambda vm: vm.guest.wakeup()),
    "watchdog": GuestAction(
        "Let its watchdog expire.", lambda vm: vm.lifecycle.watchdog_expired()
    ),
    "unplug": GuestAction(
        "Let a device go: acknowledge that it is to, or eject it unasked.",
        lambda vm, device: vm.guest.unplug(device), {"device": "text"}, ("device",),
    ),
    "refuse-unplug": GuestAction(
        "Refuse to let a device go.",
        lambda vm, device: vm.guest.refuse_unplug(device), {"device": "text"}, ("device",),
    ),
    "balloon": GuestAction(
        "Keep `size` bytes and give the rest to the balloon.",
        lambda vm, size: vm.guest.inflate(size), {"size": "size"}, ("size",),
    ),
    "dirty-memory": GuestAction(
        "Write to `rate` bytes a second from now on, all of them within `working_set`.",
        _dirty_memory, {"rate": "size", "working_set": "size"}, ("rate",),
    ),
    "write-memory": GuestAction(
        "Write to guest-physical memory.",
        lambda vm, address, data: vm.guest_memory.write(address, data),
        {"address": "int", "data": "bytes"}, ("address", "data"),
    ),
    "write-disk": GuestAction(
        "Write to a disk: id or name of its device, or node name.",
        _write_disk,
        {"disk": "text", "offset": "size", "size": "size", "data": "bytes"},
        ("disk",),
    ),
    "read-disk": GuestAction(
        "Read from a disk, for what that brings about: the data goes nowhere.",
        _read_disk, {"disk": "text", "offset": "size", "size": "size"}, ("disk",),
    ),
    "print": GuestAction(
        "Send text out of a serial port, the first or that of a device's id.",
        lambda vm, text, port=None: vm.guest.ports.print(text, port),
        {"text": "bytes", "port": "text"},
        ("text",),
    ),
    "program": GuestAction(
        "Have a program for guest-exec: what it writes, how it ends, after how many seconds.",
        _program,
        {"path": "text", "exit_code": "int", "output": "bytes", "errors": "bytes",
         "seconds": "number"},
        ("path",),
    ),
    "write-port": GuestAction(
        "Write 1, 2 or 4 bytes to an I/O port.",
        lambda vm, port, value, size=1: vm.io.write(port, size, value),
        {"port": "int", "value": "int", "size": "int"},
        ("port", "value"),
    ),
}  # fmt: skip


def _checked(name: str, value: Any, kind: str) -> Any:
    if kind == "bytes" and isinstance(value, str):
        return c_bytes(value)
    if kind == "size" and isinstance(value, str):
        # an amount a second is one too: "2G/s"
        text = value.removesuffix("/s").removesuffix("B").removesuffix("i")
        return parse_size(text, Traits())
    right = {
        "text": isinstance(value, str),
        "bytes": isinstance(value, bytes),
        "number": isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= _LARGEST_NUMBER,
    }
    if not right.get(kind, isinstance(value, int) and not isinstance(value, bool)):
        raise ValueError(f"'{name}' is no {kind}: {value!r}")
    return value
