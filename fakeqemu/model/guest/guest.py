"""The guest, as far as there is one: it does what it is told, and answers as it was told to.

Left alone it is a machine without an operating system: it ignores the power button, never
acknowledges an unplug and gives no memory back. `behave` makes it react to what the host asks,
after a while of its own time; each other verb is something it does by itself, now.

See hw/acpi/core.c: acpi_pm1_evt_power_down(); hw/acpi/pcihp.c: acpi_pcihp_eject_slot();
hw/virtio/virtio-balloon.c: virtio_balloon_to_target().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.model.boards import pc_dimm as memorydevices
from fakeqemu.model.guest.agent import GuestAgent
from fakeqemu.model.guest.ports import GuestPorts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qdev.device import DeviceObject


@dataclass(frozen=True, slots=True)
class GuestBehaviour:
    """How a guest answers what the host asks of it."""

    #: the power button: "ignore" or "shutdown"
    powerdown: str = "ignore"
    #: device_del: "ignore", "acknowledge" or "refuse"
    unplug: str = "ignore"
    #: the balloon's target: "ignore" or "follow"
    balloon: str = "ignore"
    #: the guest agent: "off", "on", or "silent" (it is there and never answers)
    agent: str = "off"
    #: seconds it takes to react
    delay: float = 0.1


#: member of GuestBehaviour -> what it may be; None: a number
CHOICES: Mapping[str, tuple[str, ...] | None] = {
    "powerdown": ("ignore", "shutdown"),
    "unplug": ("ignore", "acknowledge", "refuse"),
    "balloon": ("ignore", "follow"),
    "agent": ("off", "on", "silent"),
    "delay": None,
}


class Guest:
    """The guest of one machine."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.manners = GuestBehaviour()
        self.ports = GuestPorts(vm)
        self.agent = GuestAgent(vm, self)
        #: bytes that it has put into the balloon
        self._given_up = 0
        #: counts resets: what was begun before one is forgotten
        self._life = 0
        self._waiting: list[Callable[[], None]] = []
        lifecycle = vm.lifecycle
        lifecycle.on_powerdown.append(self._power_button)
        lifecycle.on_reset.append(self._was_reset)
        lifecycle.on_state_change.append(self._state_changed)
        vm.devices.on_unplug_request.append(self._asked_to_release)
        vm.devices.on_added.append(self._device_added)

    # -- verbs ---------------------------------------------------------------------------------

    def do(self, verb: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Do something by itself. Raises LookupError for an unknown verb, ValueError, QapiError.

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
        self._vm.journal.note("guest", verb, **given)
        known.function(self, **given)

    def behave(self, **manners: Any) -> None:
        """React so from now on; what is not named stays as it was. Raises ValueError."""
        for name, value in manners.items():
            choices = CHOICES[name]
            if choices is None:
                if value < 0:
                    raise ValueError(f"{name} is not negative")
            elif value not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        self.manners = replace(self.manners, **manners)
        if "agent" in manners:
            self.agent.switch(self.manners.agent, now=self._vm.runstate.running)

    def unplug(self, device: str) -> None:
        """Acknowledge that a device is to go. Raises QapiError if nobody has asked."""
        found = self._vm.devices.find(device)
        if not found.unplug_pending:
            raise QapiError(f"Device {device} was not asked to be unplugged")
        self._release(found)

    def refuse_unplug(self, device: str) -> None:
        """Refuse to let a device go. Raises QapiError if nobody has asked."""
        found = self._vm.devices.find(device)
        if not found.unplug_pending:
            raise QapiError(f"Device {device} was not asked to be unplugged")
        self._refuse(found)

    def inflate(self, size: int) -> None:
        """Keep `size` bytes, give the rest to the balloon: BALLOON_CHANGE."""
        before = self.actual
        self._given_up = max(0, self._memory() - size)
        if self.actual != before:
            self._vm.events.emit("BALLOON_CHANGE", {"actual": self.actual})

    @property
    def actual(self) -> int:
        """Bytes that the balloon leaves the guest."""
        return self._memory() - self._given_up

    def _memory(self) -> int:
        return self._vm.state.memory.size + memorydevices.plugged_size(self._vm.state)

    def dirty_memory(self, rate: int, working_set: int | None = None) -> None:
        """Write to `rate` bytes a second from now on, all of them within `working_set`."""
        migration = self._vm.migration.object
        if migration is None:
            raise QapiError("the machine is not there yet")
        migration.guest_dirties(rate, working_set)

    def write_memory(self, address: int, data: bytes) -> None:
        """Write to guest-physical memory."""
        self._vm.guest_memory.write(address, data)

    def write_disk(
        self, disk: str, offset: int = 0, size: int | None = None, data: bytes | None = None
    ) -> None:
        """Write to a disk: id or name of its device, or node name.

        Raises QapiError, and BlockIoError if the guest is to see one (`werror`).
        """
        from fakeqemu.model.block.backends.guest_io import FILLER, GuestRequest

        if data is not None:
            size = len(data)
        count = 4096 if size is None else size
        backend = self._disk(disk)
        if backend is None:
            self._vm.block.write(disk, offset, FILLER * count if data is None else data)
            return
        request = GuestRequest(backend, "write", offset, count, data)
        self._vm.block.guest_io.perform(request)

    def read_disk(self, disk: str, offset: int = 0, size: int = 4096) -> None:
        """Read from a disk: id or name of its device, or node name.

        Raises QapiError, and BlockIoError if the guest is to see one (`rerror`).
        """
        from fakeqemu.model.block.backends.guest_io import GuestRequest

        backend = self._disk(disk)
        if backend is None:
            raise QapiError(f"Node '{disk}' is no disk of a device")
        self._vm.block.guest_io.perform(GuestRequest(backend, "read", offset, size))

    def _disk(self, disk: str) -> Backend | None:
        """A disk's backend; None for a node that has none. Raises QapiError."""
        block = self._vm.block
        backend = block.backends.named.get(disk)
        if backend is None and block.graph.find(disk) is None:
            backend = block.backends.get(None, disk)
        if backend is None:
            found = block.graph.find(disk)
            backend = block.backends.on(found) if found is not None else None
        if backend is not None and backend.node is None:
            raise QapiError(f"Device '{disk}' has no medium")
        return backend

    def hibernate(self) -> None:
        """Go to sleep in S4: SUSPEND_DISK, then off."""
        self._vm.events.emit("SUSPEND_DISK")
        self._vm.lifecycle.shutdown("guest-shutdown")

    def wakeup(self) -> None:
        """Be woken by a device of its own."""
        self._vm.lifecycle.wakeup()

    def shutdown(self) -> None:
        """Turn itself off."""
        self._vm.lifecycle.shutdown("guest-shutdown")

    def restart(self) -> None:
        """Reset itself."""
        self._vm.lifecycle.reset("guest-reset")

    # -- what the host asks ------------------------------------------------------------------

    def balloon_asked(self, size: int) -> None:
        """The host wants `size` bytes to be left."""
        if self.manners.balloon == "follow":
            self.later(lambda: self.inflate(size))

    def later(self, react: Callable[[], None]) -> None:
        """React after the guest's delay, of a time in which it runs; not at all after a reset."""
        life = self._life

        def now() -> None:
            if life != self._life or self._vm.process.exit_code is not None:
                return
            if self._vm.runstate.running:
                react()
            else:
                self._waiting.append(now)

        self._vm.process.call_later(round(self.manners.delay * SECOND), now)

    def _power_button(self) -> None:
        if self.manners.powerdown == "shutdown":
            self.later(self.shutdown)

    def _asked_to_release(self, device: DeviceObject) -> None:
        reactions = {"acknowledge": self._release, "refuse": self._refuse}
        react = reactions.get(self.manners.unplug)
        if react is not None:
            self.later(lambda: react(device))

    def _release(self, device: DeviceObject) -> None:
        if device.unplug_pending and device.parent is not None:
            cpu = self._vm.cpus.of(device)
            if cpu is not None:
                self._vm.cpus.remove(cpu.index)
            self._vm.devices.gone(device)

    def _refuse(self, device: DeviceObject) -> None:
        if device.unplug_pending and device.parent is not None:
            device.unplug_pending = False
            if memorydevices.is_module(self._vm.profile, device):
                refused = memorydevices.status(device, source="ejection", status="failure")
                self._vm.events.emit("ACPI_DEVICE_OST", {"info": refused})
                return
            named = {"device": device.id} if device.id is not None else {}
            data = {**named, "path": device.path}
            self._vm.events.emit("DEVICE_UNPLUG_GUEST_ERROR", data)

    def _device_added(self, _device: DeviceObject) -> None:
        if self._vm.runstate.running:
            self._start_agent()

    def _start_agent(self) -> None:
        if self.manners.agent != "off":
            self.later(self.agent.look)

    def _was_reset(self, _cause: str) -> None:
        self._life += 1
        self._waiting.clear()
        self._given_up = 0
        self.agent.was_reset()
        self._start_agent()

    def _state_changed(self, running: bool, _state: str) -> None:
        if running:
            waiting, self._waiting = self._waiting, []
            for react in waiting:
                self._vm.process.call_later(0, react)
            self._start_agent()


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GuestAction:
    """One thing a guest does by itself."""

    #: for people
    does: str
    function: Callable[..., object]
    #: parameter -> kind: "text", "size" (bytes, "64M"), "number", "bytes", "int"
    parameters: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()


_MANNERS = {name: "number" if choices is None else "text" for name, choices in CHOICES.items()}

#: what a guest may be told to do
VERBS: Mapping[str, GuestAction] = {
    "behave": GuestAction(
        "React so to what the host asks; `delay` in seconds of time in which the guest runs.",
        Guest.behave, _MANNERS,
    ),
    "shutdown": GuestAction("Turn itself off.", Guest.shutdown),
    "reset": GuestAction("Reset itself.", Guest.restart),
    "panic": GuestAction("Panic.", lambda guest: guest._vm.lifecycle.guest_panicked()),
    "crash-loaded": GuestAction(
        "Panic with a crash kernel loaded: GUEST_CRASHLOADED.",
        lambda guest: guest._vm.events.emit("GUEST_CRASHLOADED", {"action": "run"}),
    ),
    "suspend": GuestAction("Go to sleep in S3.", lambda guest: guest._vm.lifecycle.suspend()),
    "hibernate": GuestAction("Go to sleep in S4: SUSPEND_DISK, then off.", Guest.hibernate),
    "wakeup": GuestAction("Be woken by a device of its own.", Guest.wakeup),
    "watchdog": GuestAction(
        "Let its watchdog expire.", lambda guest: guest._vm.lifecycle.watchdog_expired()
    ),
    "unplug": GuestAction(
        "Acknowledge that a device is to go.", Guest.unplug, {"device": "text"}, ("device",)
    ),
    "refuse-unplug": GuestAction(
        "Refuse to let a device go.", Guest.refuse_unplug, {"device": "text"}, ("device",)
    ),
    "balloon": GuestAction(
        "Keep `size` bytes and give the rest to the balloon.",
        Guest.inflate, {"size": "size"}, ("size",),
    ),
    "dirty-memory": GuestAction(
        "Write to `rate` bytes a second from now on, all of them within `working_set`.",
        Guest.dirty_memory, {"rate": "size", "working_set": "size"}, ("rate",),
    ),
    "write-memory": GuestAction(
        "Write to guest-physical memory.",
        Guest.write_memory, {"address": "int", "data": "bytes"}, ("address", "data"),
    ),
    "write-disk": GuestAction(
        "Write to a disk: id or name of its device, or node name.",
        Guest.write_disk,
        {"disk": "text", "offset": "size", "size": "size", "data": "bytes"},
        ("disk",),
    ),
    "read-disk": GuestAction(
        "Read from a disk, for what that brings about: the data goes nowhere.",
        Guest.read_disk, {"disk": "text", "offset": "size", "size": "size"}, ("disk",),
    ),
    "print": GuestAction(
        "Send text out of a serial port, the first or that of a device's id.",
        lambda guest, text, port=None: guest.ports.print(text, port),
        {"text": "bytes", "port": "text"},
        ("text",),
    ),
    "write-port": GuestAction(
        "Write 1, 2 or 4 bytes to an I/O port.",
        lambda guest, port, value, size=1: guest._vm.io.write(port, size, value),
        {"port": "int", "value": "int", "size": "int"},
        ("port", "value"),
    ),
}  # fmt: skip


def _checked(name: str, value: Any, kind: str) -> Any:
    from fakeqemu.qapi.readers.scalars import parse_size
    from fakeqemu.traits import Traits

    if kind == "bytes" and isinstance(value, str):
        return c_bytes(value)
    if kind == "size" and isinstance(value, str):
        # an amount a second is one too: "2G/s"
        text = value.removesuffix("/s").removesuffix("B").removesuffix("i")
        return parse_size(text, Traits())
    right = {
        "text": isinstance(value, str),
        "bytes": isinstance(value, bytes),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not right.get(kind, isinstance(value, int) and not isinstance(value, bool)):
        raise ValueError(f"'{name}' is no {kind}: {value!r}")
    return value
