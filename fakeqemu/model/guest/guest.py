"""The scripted guest: it does what a tester tells it to, and answers as configured.

Left alone it is a machine without an operating system: it ignores the power button, never
acknowledges an unplug and gives no memory back. `behave` makes it react to what the host asks,
after a while of its own time; each other verb is something it does by itself, now.

See hw/acpi/core.c: acpi_pm1_evt_power_down(); hw/acpi/pcihp.c: acpi_pcihp_eject_slot();
hw/virtio/virtio-balloon.c: virtio_balloon_to_target().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass, replace
from fakeqemu.model.boards.memory_devices import pc_dimm
from fakeqemu.model.boards.memory_devices.address_space import is_memory_device
from fakeqemu.model.guest.agent import AgentHooks, GuestAgent
from fakeqemu.model.guest.ports import GuestPorts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qdev.monitor import Devices
    from fakeqemu.model.runstate import RunState


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

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        lifecycle: Lifecycle,
        *,
        state: MachineState,
        cpus: Cpus,
        devices: Devices,
        ports: GuestPorts,
        agent_hooks: Callable[[], AgentHooks | None],
    ) -> None:
        self._process = process
        self._runstate = runstate
        self._lifecycle = lifecycle
        self._state = state
        self._cpus = cpus
        self._devices = devices
        self.ports = ports
        self.manners = GuestBehaviour()
        self.agent = GuestAgent(process, state, cpus, ports, guest=self, hooks=agent_hooks)
        #: bytes that it has put into the balloon
        self._given_up = 0
        #: counts resets: what was begun before one is forgotten
        self._life = 0
        self._waiting: list[Callable[[], None]] = []
        lifecycle.on_powerdown.append(self._power_button)
        lifecycle.on_reset.append(self._was_reset)
        lifecycle.on_state_change.append(self._state_changed)
        devices.on_unplug_request.append(self._asked_to_release)
        devices.on_added.append(self._device_added)

    # -- what it does by itself --------------------------------------------------------------

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
            self.agent.switch(self.manners.agent, now=self._runstate.running)

    def unplug(self, device: str) -> None:
        """Let a device go, whether or not the host has asked: a guest may eject what it likes.

        See hw/pci/pcie.c: pcie_cap_slot_do_unplug(); hw/acpi/pcihp.c: acpi_pcihp_eject_slot().
        Raises QapiError for a device that no guest can let go.
        """
        found = self._devices.find(device)
        if not found.unplug_pending:
            self._check_eject(found)
            found.unplug_pending = True
        self._release(found)

    def _check_eject(self, device: DeviceObject) -> None:
        profile = self._process.profile
        if self._cpus.of(device) is None:
            self._devices.check_unplug(device)
            pci = profile.is_a(device.type, "pci-device")
            if not pci and not is_memory_device(profile, device):
                raise QapiError(f"Device '{device.type}' is in no slot that a guest can eject")

    def refuse_unplug(self, device: str) -> None:
        """Refuse an unplug request. Raises QapiError if there is none."""
        found = self._devices.find(device)
        if not found.unplug_pending:
            raise QapiError(f"Device {device} was not asked to be unplugged")
        self._refuse(found)

    def inflate(self, size: int) -> None:
        """Keep `size` bytes, give the rest to the balloon: BALLOON_CHANGE."""
        before = self.actual
        self._given_up = max(0, self._memory() - size)
        if self.actual != before:
            self._process.events.emit("BALLOON_CHANGE", {"actual": self.actual})

    @property
    def actual(self) -> int:
        """Bytes that the balloon leaves the guest."""
        return self._memory() - self._given_up

    def _memory(self) -> int:
        return self._state.memory.size + pc_dimm.volatile_size(self._state)

    def suspend(self) -> None:
        """Go to sleep in S3."""
        self._lifecycle.suspend()

    def hibernate(self) -> None:
        """Go to sleep in S4: SUSPEND_DISK, then off."""
        self._process.events.emit("SUSPEND_DISK")
        self._lifecycle.shutdown("guest-shutdown")

    def wakeup(self) -> None:
        """Be woken by a device of its own."""
        self._lifecycle.wakeup()

    def shutdown(self) -> None:
        """Turn itself off."""
        self._lifecycle.shutdown("guest-shutdown")

    def restart(self) -> None:
        """Reset itself."""
        self._lifecycle.reset("guest-reset")

    # -- what the host asks ------------------------------------------------------------------

    def balloon_asked(self, size: int) -> None:
        """The host wants `size` bytes to be left."""
        if self.manners.balloon == "follow":
            self.later(lambda: self.inflate(size))

    def later(self, react: Callable[[], None]) -> None:
        """React after the guest's delay, of a time in which it runs; not at all after a reset."""
        life = self._life

        def now() -> None:
            if life != self._life or self._process.exit_code is not None:
                return
            if self._runstate.running:
                react()
            else:
                self._waiting.append(now)

        self._process.call_later(round(self.manners.delay * SECOND), now)

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
            self._devices.gone(device)

    def _refuse(self, device: DeviceObject) -> None:
        if device.unplug_pending and device.parent is not None:
            device.unplug_pending = False
            if pc_dimm.is_module(self._process.profile, device):
                refused = pc_dimm.status(device, source="ejection", status="failure")
                self._process.events.emit("ACPI_DEVICE_OST", {"info": refused})
                return
            named = {"device": device.id} if device.id is not None else {}
            data = {**named, "path": device.path}
            self._process.events.emit("DEVICE_UNPLUG_GUEST_ERROR", data)

    def _device_added(self, device: DeviceObject) -> None:
        # a guest that reacts to unplug requests has switched the slot on
        device.slot_powered = device.slot_powered or self.manners.unplug != "ignore"
        if self._runstate.running:
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
                self._process.call_later(0, react)
            self._start_agent()
