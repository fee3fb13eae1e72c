"""The commands of the guest agent that management tools wait for.

See qga/qapi-schema.json; qga/commands.c; qga/commands-posix.c.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.qapi.plainschema import plain_schema
from fakeqemu.qapi.texts import invalid_parameter_type, value_not_accepted

if TYPE_CHECKING:
    from fakeqemu.model.guest.agent import GuestAgent
    from fakeqemu.traits import Traits

Json = dict[str, Any]
_BASE64 = re.compile(r"[A-Za-z0-9+/=\n]*")
#: every command that an agent of some version has: those that are not modelled can be stubbed
NAMES = frozenset((
    "guest-sync-delimited", "guest-sync", "guest-ping", "guest-get-time", "guest-set-time",
    "guest-info", "guest-shutdown", "guest-file-open", "guest-file-close", "guest-file-read",
    "guest-file-write", "guest-file-seek", "guest-file-flush", "guest-fsfreeze-status",
    "guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list", "guest-fsfreeze-thaw", "guest-fstrim",
    "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid",
    "guest-network-get-interfaces", "guest-get-vcpus", "guest-set-vcpus", "guest-get-disks",
    "guest-get-fsinfo", "guest-set-user-password", "guest-get-memory-blocks",
    "guest-set-memory-blocks", "guest-get-memory-block-info", "guest-exec-status", "guest-exec",
    "guest-get-host-name", "guest-get-users", "guest-get-timezone", "guest-get-osinfo",
    "guest-get-devices", "guest-ssh-get-authorized-keys", "guest-ssh-add-authorized-keys",
    "guest-ssh-remove-authorized-keys", "guest-get-diskstats", "guest-get-cpustats",
    "guest-get-load", "guest-network-get-route",
))  # fmt: skip


# -- programs that it can be asked to run ----------------------------------------------------------
# A guest without an operating system has `true`, `false` and `cat`; others are said by a tester.

#: the first process id that is given out
FIRST_PID = 1000


@dataclass(frozen=True, slots=True)
class Program:
    """What a program does when it is run."""

    exit_code: int = 0
    #: what it writes to standard output and standard error
    output: bytes = b""
    errors: bytes = b""
    #: how long it takes
    seconds: float = 0.0
    #: whether it writes what it is given; it finds no file, as the guest has none
    echoes: bool = False


PROGRAMS: Mapping[str, Program] = {
    "true": Program(),
    "false": Program(exit_code=1),
    "cat": Program(echoes=True),
}


#: GuestExecCaptureOutputMode -> members of GuestExecStatus that there are
CAPTURED: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "stdout": ("out-data",),
    "stderr": ("err-data",),
    "separated": ("out-data", "err-data"),
    "merged": ("out-data",),
}


@dataclass(frozen=True, slots=True)
class Running:
    """One that was run."""

    program: Program
    #: nanoseconds of the machine's clock at which it is over
    ends: int
    #: what it writes that is kept: a GuestExecCaptureOutputMode
    capture: str
    #: what it was given on standard input
    given: bytes = b""
    #: files that it was to write instead
    files: tuple[str, ...] = ()

    def status(self) -> dict[str, Any]:
        """GuestExecStatus of one that is over."""
        program = self.program
        output, errors, code = program.output, program.errors, program.exit_code
        if program.echoes and self.files:
            missed = [f"cat: {each}: No such file or directory\n" for each in self.files]
            errors, code = c_bytes("".join(missed)), 1
        elif program.echoes:
            output += self.given
        found: dict[str, Any] = {"exited": True, "exitcode": code}
        if self.capture == "merged":
            output, errors = output + errors, b""
        for name, data in (("out-data", output), ("err-data", errors)):
            if data and name in CAPTURED[self.capture]:
                found[name] = b64encode(data).decode()
        return found


# -- commands --------------------------------------------------------------------------------------


class AgentCommand:
    """One command."""

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
        "machine": agent.process.profile.target,
    }


def _vcpus(agent: GuestAgent) -> list[Json]:
    return [
        {"logical-id": cpu.index, "online": True, "can-offline": cpu.index != 0}
        for cpu in sorted(agent.cpus.present(), key=lambda each: each.index)
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


def _exec(  # noqa: PLR0917
    agent: GuestAgent,
    path: str,
    arg: Any = None,
    env: Any = None,
    input_data: str | None = None,
    capture_output: Any = False,
) -> Json:
    """See qga/commands.c: qmp_guest_exec()."""
    for name, listed in (("arg", arg), ("env", env)):
        if not isinstance(listed, list | None):
            raise QapiError(invalid_parameter_type(name, "array"))
        for index, each in enumerate(listed or ()):
            if not isinstance(each, str):
                raise QapiError(invalid_parameter_type(f"{name}[{index}]", "string"))
    capture = _capture_mode(capture_output, agent.process.profile.traits)
    given = b"" if input_data is None else _decoded(input_data)
    program = agent.programs.get(path) or agent.programs.get(path.rpartition("/")[2])
    if program is None:
        text = f"Failed to execute child process \u201c{path}\u201d (No such file or directory)"
        prefix = agent.process.profile.traits.agent_exec_prefix
        raise QapiError(f"{prefix}'{text}'" if prefix else text)
    pid = FIRST_PID + len(agent.processes)
    while pid in agent.processes:
        pid += 1
    ends = agent.process.clock.now() + round(program.seconds * SECOND)
    files = tuple(each for each in arg or () if each != "-")
    agent.processes[pid] = Running(program, ends, capture, given, files)
    return {"pid": pid}


def _capture_mode(value: Any, traits: Traits) -> str:
    """See qga/commands.c: ga_parse_capture_output(). Raises QapiError."""
    if isinstance(value, bool):
        return "separated" if value else "none"
    if not traits.agent_capture_modes:
        raise QapiError(invalid_parameter_type("capture-output", "boolean"))
    if not isinstance(value, str):
        raise QapiError(invalid_parameter_type("capture-output", "GuestExecCaptureOutput"))
    if value not in CAPTURED:
        raise QapiError(value_not_accepted("capture-output", value))
    return value


def _decoded(text: str) -> bytes:
    """See util/base64.c: qbase64_decode(), which leaves out a last character alone."""
    if not _BASE64.fullmatch(text):
        raise QapiError("Base64 data contains invalid characters")
    digits = text.replace("\n", "").replace("=", "")
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    return b64decode(digits + "=" * (-len(digits) % 4))


def _exec_status(agent: GuestAgent, pid: int) -> Json:
    """See qga/commands.c: qmp_guest_exec_status(): what is over is told once."""
    running = agent.processes.get(pid)
    if running is None:
        raise QapiError(agent.process.profile.traits.agent_unknown_pid)
    if agent.process.clock.now() < running.ends:
        return {"exited": False}
    del agent.processes[pid]
    return running.status()


#: the commands that management tools wait for
COMMANDS: Mapping[str, AgentCommand] = {
    "guest-sync-delimited": AgentCommand(_sync, {"id": "int"}, when_frozen=True),
    "guest-sync": AgentCommand(_sync, {"id": "int"}, when_frozen=True),
    "guest-ping": AgentCommand(lambda _: None, when_frozen=True),
    "guest-info": AgentCommand(_info, when_frozen=True),
    "guest-get-time": AgentCommand(_now),
    "guest-set-time": AgentCommand(_set_time, {"time": "int?"}),
    "guest-shutdown": AgentCommand(_shutdown, {"mode": "str?"}, replies=False),
    "guest-suspend-ram": AgentCommand(
        lambda agent: agent.guest.later(agent.guest.suspend), replies=False
    ),
    "guest-suspend-disk": AgentCommand(
        lambda agent: agent.guest.later(agent.guest.hibernate), replies=False
    ),
    "guest-fsfreeze-status": AgentCommand(
        lambda agent: "frozen" if agent.frozen else "thawed", when_frozen=True
    ),
    "guest-fsfreeze-freeze": AgentCommand(partial(_set_frozen, frozen=True)),
    "guest-fsfreeze-freeze-list": AgentCommand(
        lambda agent, mountpoints=None: _set_frozen(agent, frozen=True),  # noqa: ARG005
        {"mountpoints": "any?"},
    ),
    "guest-fsfreeze-thaw": AgentCommand(partial(_set_frozen, frozen=False), when_frozen=True),
    "guest-fstrim": AgentCommand(
        lambda _, minimum=0: {"paths": []}, {"minimum": "int?"}  # noqa: ARG005
    ),
    "guest-get-osinfo": AgentCommand(_osinfo),
    "guest-get-host-name": AgentCommand(_host_name),
    "guest-get-timezone": AgentCommand(lambda _: {"zone": "UTC", "offset": 0}),
    "guest-exec": AgentCommand(
        _exec,
        {"path": "str", "arg": "any?", "env": "any?", "input-data": "str?",
         "capture-output": "any?"},
    ),
    "guest-exec-status": AgentCommand(_exec_status, {"pid": "int"}),
    "guest-get-disks": AgentCommand(lambda _: []),
    "guest-get-users": AgentCommand(lambda _: []),
    "guest-get-vcpus": AgentCommand(_vcpus),
    "guest-get-fsinfo": AgentCommand(lambda _: []),
    "guest-network-get-interfaces": AgentCommand(_interfaces),
}
SCHEMA = plain_schema({name: command.members for name, command in COMMANDS.items()})
