"""The guest agent: what management tools ask the guest itself, over a virtio port.

Its protocol is QMP's older sister: one JSON object a line, no greeting, replies one after the
other, and a byte 0xFF by which both sides find the beginning of a message again.

See qga/main.c; qga/qapi-schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.backends import DeviceFrontend
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError
from fakeqemu.qapi.json.streamer import JsonStream, ParseError
from fakeqemu.qapi.json.writer import encode
from fakeqemu.qapi.plainschema import plain_schema
from fakeqemu.qapi.texts import command_not_found
from fakeqemu.qapi.visitor import check_arguments

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.guest.guest import Guest
    from fakeqemu.model.guest.ports import GuestPorts
    from fakeqemu.model.process import Process

#: the port it listens at
NAME = "org.qemu.guest_agent.0"
_SENTINEL = b"\xff"
Json = dict[str, Any]


class GuestAgent:
    """The agent in one guest."""

    def __init__(
        self, process: Process, state: MachineState, cpus: Cpus, ports: GuestPorts, guest: Guest
    ) -> None:
        self.process = process
        self.state = state
        self.cpus = cpus
        self.guest = guest
        self._ports = ports
        #: whether file systems are frozen
        self.frozen = False
        #: nanoseconds that its clock is ahead of the machine's
        self.clock_offset = 0
        self._streams: dict[str, JsonStream] = {}
        self._silent = False

    def switch(self, state: str, *, now: bool) -> None:
        """Start ("on"), start and say nothing ("silent"), or end ("off"); start only `now`."""
        self._silent = state == "silent"
        if state == "off":
            self.was_reset()
        elif now:
            self.look()

    def look(self) -> None:
        """Open the ports that are there."""
        for device, chardev in self._ports.named(NAME):
            if isinstance(chardev.frontend, DeviceFrontend):
                chardev.frontend.on_data = partial(self._received, chardev)
                self._ports.set_open(device, chardev, True)

    def was_reset(self) -> None:
        """It is gone, with what it was at."""
        self.frozen = False
        self._streams.clear()
        for device, chardev in self._ports.named(NAME):
            self._ports.set_open(device, chardev, False)

    def _received(self, chardev: Chardev, data: bytes, _fds: Sequence[int]) -> None:
        if chardev.id not in self._streams:
            self._streams[chardev.id] = JsonStream(self.process.profile.traits)
        for message in self._streams[chardev.id].feed(data):
            if isinstance(message, ParseError):
                self._send(chardev, _failure(QapiError(message.text)))
            else:
                self._answer(chardev, message.value)

    def _answer(self, chardev: Chardev, message: Any) -> None:
        id = {"id": message["id"]} if isinstance(message, dict) and "id" in message else {}
        name = message.get("execute", "") if isinstance(message, dict) else ""
        self.process.journal.note("guest-agent", str(name))
        found, error = self.process.guard.attempt(self._carry_out, message)
        if error is not None:
            self._send(chardev, {**_failure(error), **id})
            return
        command, value = found
        if command.replies:
            delimited = name == "guest-sync-delimited"
            value = {} if value is None else value
            self._send(chardev, {"return": value, **id}, delimited=delimited)

    def _carry_out(self, message: Any) -> tuple[_Command, Any]:
        command, arguments = self._checked(message)
        return command, command.function(self, **arguments)

    def _checked(self, message: Any) -> tuple[_Command, Json]:
        if not isinstance(message, dict):
            raise QapiError("QMP input must be a JSON object")
        for member in message:
            if member not in ("execute", "arguments", "id"):
                raise QapiError(f"QMP input member '{member}' is unexpected")
        name, arguments = message.get("execute"), message.get("arguments", {})
        if name is None:
            raise QapiError("QMP input lacks member 'execute'")
        if not isinstance(name, str):
            raise QapiError("QMP input member 'execute' must be a string")
        if not isinstance(arguments, dict):
            raise QapiError("QMP input member 'arguments' must be an object")
        if name not in COMMANDS:
            raise CommandNotFoundError(command_not_found(name))
        if not self.enabled(name):
            raise CommandNotFoundError(
                f"Command {name} has been disabled: the agent is in frozen state"
            )
        checked = check_arguments(_SCHEMA, name, arguments)
        return COMMANDS[name], {key.replace("-", "_"): each for key, each in checked.items()}

    def enabled(self, name: str) -> bool:
        """Whether a command is taken; few are while file systems are frozen."""
        return not self.frozen or COMMANDS[name].when_frozen

    def _send(self, chardev: Chardev, reply: Json, *, delimited: bool = False) -> None:
        if not self._silent:
            mark = _SENTINEL if delimited else b""
            chardev.write(mark + encode(reply).encode() + b"\n")


def _failure(error: QapiError) -> Json:
    return {"error": {"class": error.error_class, "desc": error.desc}}


# -- commands ------------------------------------------------------------------------------------


class _Command:
    def __init__(
        self,
        function: Callable[..., Any],
        members: Mapping[str, str] | None = None,
        *,
        replies: bool = True,
        when_frozen: bool = False,
    ) -> None:
        self.function = function
        self.members = members or {}
        self.replies = replies
        self.when_frozen = when_frozen


def _sync(_agent: GuestAgent, id: int) -> int:
    return id


def _info(agent: GuestAgent) -> Json:
    version = agent.process.profile.version
    listed = [
        {"enabled": agent.enabled(name), "name": name, "success-response": command.replies}
        for name, command in COMMANDS.items()
    ]
    text = f"{version.major}.{version.minor}.{version.micro}"
    return {"version": text, "supported_commands": listed}


def _shutdown(agent: GuestAgent, mode: str = "powerdown") -> None:
    # a guest that is halted goes on as a machine that does nothing
    ends = {"powerdown": agent.guest.shutdown, "reboot": agent.guest.restart, "halt": None}
    if mode not in ends:
        raise QapiError("mode is invalid (valid values are: halt|powerdown|reboot")
    end = ends[mode]
    if end is not None:
        agent.guest.later(end)


def _set_frozen(agent: GuestAgent, *, frozen: bool) -> int:
    changed = agent.frozen != frozen
    agent.frozen = frozen
    return len(_disks(agent)) if changed else 0


def _disks(agent: GuestAgent) -> list[Any]:
    """What may hold a file system: disks of this machine."""
    return [
        device
        for device in user_devices(agent.state.qom)
        if "drive" in device.values or any("drive" in c.values for c in device.children.values())
    ]


def _now(agent: GuestAgent) -> int:
    return agent.process.clock.realtime() + agent.clock_offset


def _set_time(agent: GuestAgent, time: int | None = None) -> None:
    if time is not None and time < 0:
        raise QapiError("Time is too large" if time else f"Invalid time {time}")
    agent.clock_offset = 0 if time is None else time - agent.process.clock.realtime()


def _osinfo(agent: GuestAgent) -> Json:
    return {
        "id": "fakeqemu",
        "name": "fakeqemu",
        "pretty-name": "a guest of fakeqemu",
        "machine": agent.process.profile.query("query-target")["return"]["arch"],
    }


def _vcpus(agent: GuestAgent) -> list[Json]:
    return [
        {"logical-id": cpu.index, "online": True, "can-offline": cpu.index != 0}
        for cpu in agent.cpus.present()
    ]


def _interfaces(agent: GuestAgent) -> list[Json]:
    loopback = {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}
    found: list[Json] = [
        {
            "name": "lo",
            "ip-addresses": [loopback],
            "hardware-address": "00:00:00:00:00:00",
        }
    ]
    for device in user_devices(agent.state.qom):
        holders = [device, *device.children.values()]
        mac = next((h.values["mac"] for h in holders if isinstance(h.values.get("mac"), str)), "")
        if mac:
            name = f"eth{len(found) - 1}"
            found.append({"name": name, "ip-addresses": [], "hardware-address": mac})
    return found


def _host_name(agent: GuestAgent) -> Json:
    return {"host-name": agent.state.configuration.name.guest or "localhost"}


#: the commands that management tools wait for
COMMANDS: Mapping[str, _Command] = {
    "guest-sync-delimited": _Command(_sync, {"id": "int"}, when_frozen=True),
    "guest-sync": _Command(_sync, {"id": "int"}, when_frozen=True),
    "guest-ping": _Command(lambda _: None, when_frozen=True),
    "guest-info": _Command(_info, when_frozen=True),
    "guest-get-time": _Command(_now),
    "guest-set-time": _Command(_set_time, {"time": "int?"}),
    "guest-shutdown": _Command(_shutdown, {"mode": "str?"}, replies=False),
    "guest-suspend-ram": _Command(
        lambda agent: agent.guest.later(agent.guest.suspend), replies=False
    ),
    "guest-suspend-disk": _Command(
        lambda agent: agent.guest.later(agent.guest.hibernate), replies=False
    ),
    "guest-fsfreeze-status": _Command(
        lambda agent: "frozen" if agent.frozen else "thawed", when_frozen=True
    ),
    "guest-fsfreeze-freeze": _Command(partial(_set_frozen, frozen=True)),
    "guest-fsfreeze-freeze-list": _Command(
        lambda agent, mountpoints=None: _set_frozen(agent, frozen=True),  # noqa: ARG005
        {"mountpoints": "any?"},
    ),
    "guest-fsfreeze-thaw": _Command(partial(_set_frozen, frozen=False), when_frozen=True),
    "guest-fstrim": _Command(
        lambda _, minimum=0: {"paths": []}, {"minimum": "int?"}  # noqa: ARG005
    ),
    "guest-get-osinfo": _Command(_osinfo),
    "guest-get-host-name": _Command(_host_name),
    "guest-get-timezone": _Command(lambda _: {"zone": "UTC", "offset": 0}),
    "guest-get-users": _Command(lambda _: []),
    "guest-get-vcpus": _Command(_vcpus),
    "guest-get-fsinfo": _Command(lambda _: []),
    "guest-network-get-interfaces": _Command(_interfaces),
}
_SCHEMA = plain_schema({name: command.members for name, command in COMMANDS.items()})
