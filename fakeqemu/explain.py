"""What a command line would do: the boot's steps and every migration parameter's layers.

The machine boots against no world at all, so nothing is opened, bound or written; everything
shown comes from the machine's journal and its parameters, nothing is worked out again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.boot.requests import Request, WaitForCprState
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.dataclass import dataclass, field
from fakeqemu.io.files.image_files import ReadOnlyFiles
from fakeqemu.migration.object import current_migration
from fakeqemu.model.host import CprChannel
from fakeqemu.model.null_host import NullHost
from fakeqemu.qapi.errors import StartupError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.parameters import Explanation
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile


@dataclass
class Explained:
    """How far a command line came."""

    #: None: its options were refused
    machine: Machine | None = None
    #: passes over the options that were made
    passes: list[str] = field(default_factory=list)
    #: lines on standard error, before the error
    messages: list[str] = field(default_factory=list)
    #: why it went no further
    error: str | None = None
    #: the exit status then
    exit: int = 0


def explain(
    argv: Sequence[str],
    profile: Profile,
    *,
    json: bool,
    as_posted: bool,
    out: TextIO,
) -> int:
    """Print how `argv` boots; 0, or the exit status with which QEMU would fail."""
    account = explain_boot(argv, profile, as_posted=as_posted)
    if json:
        from json import dumps

        out.write(dumps(account, indent=2) + "\n")
    else:
        out.write(render(account))
    return int(account["exit"])


def explain_boot(
    argv: Sequence[str], profile: Profile, *, as_posted: bool = False
) -> dict[str, Any]:
    """How `argv` boots, as JSON values.

    Members: `profile`, `version`, `machine`, `steps` (`step`, `reads`, `phase`, `events`,
    `early-reads`: parameters that the step read before there was a migration object, with what
    they read as), `parameters` and `capabilities` (`name`, `value`, `layer`, `layers`),
    `messages`, `error` (or None), `exit`. A start that fails has the steps walked until then.
    """
    version = profile.version
    account: dict[str, Any] = {
        "profile": profile.name,
        "version": f"{version.major}.{version.minor}.{version.micro}",
        "machine": None,
        "steps": [],
        "parameters": [],
        "capabilities": [],
        "messages": [],
        "error": None,
        "exit": 0,
    }
    told = boot_against(argv, profile, NullHost(), as_posted=as_posted)
    account["messages"], account["error"], account["exit"] = told.messages, told.error, told.exit
    vm = told.machine
    if vm is None:
        account["steps"] = [_step(name, {}, [], []) for name in told.passes]
    else:
        machine = vm.state.type
        account["machine"] = None if machine is None else machine.name
        account["steps"] = _steps(vm)
        if (migration := current_migration(vm)) is not None:
            parameters, capabilities = migration.parameters, migration.capabilities
            account["parameters"] = [
                _layers(parameters.explain(name)) for name in sorted(parameters)
            ]
            account["capabilities"] = [
                _layers(capabilities.explain(name)) for name in sorted(capabilities.names)
            ]
    return account


def boot_against(
    argv: Sequence[str], profile: Profile, host: NullHost, *, as_posted: bool
) -> Explained:
    """How `argv` boots on `host`, whose files are only read."""
    told = Explained()
    host.files = files = ReadOnlyFiles()
    try:
        configuration = parse_command_line(argv, profile, passes=told.passes)
        configuration.as_posted = as_posted
        boot = Boot.of(configuration, profile, VirtualClock(), host)
        told.machine = boot.vm
        _walk(boot)
    except StartupError as error:
        told.messages += error.earlier
        told.error, told.exit = error.message, error.code
    except EarlyExit as leave:
        told.messages += leave.earlier
        told.error, told.exit = "prints help and leaves, no machine is made", leave.code
    finally:
        files.close()
    told.messages += host.warnings
    return told


def render(account: dict[str, Any]) -> str:
    """The account as text for people."""
    lines = [f"QEMU {account['version']} (profile {account['profile']})"]
    if account["machine"]:
        lines[0] += f", machine {account['machine']}"
    lines += ["", "boot"]
    for number, step in enumerate(account["steps"], 1):
        reads = ", ".join(f"{name}={shown(value)}" for name, value in step["reads"].items())
        lines.append(f"  {number:2}  {step['step']:<20} {reads}".rstrip())
        lines += [
            f"      reads {each['name']} early: {shown(each['value'])}"
            for each in step["early-reads"]
        ]
        lines += [f"      event {name}" for name in step["events"]]
        if step["phase"]:
            lines.append(f"      -> {step['phase']}")
    if account["error"]:
        lines += ["", f"ends with exit status {account['exit']}: {account['error']}"]
    if account["messages"]:
        lines += ["", "messages", *(f"  {text}" for text in account["messages"])]
    for what in ("parameters", "capabilities"):
        if not account[what]:
            continue
        width = max(len(entry["name"]) for entry in account[what])
        lines += ["", f"migration {what} (the layer that wins stands last)"]
        for entry in account[what]:
            layers = " < ".join(
                f"{layer}: {shown(value)}" for layer, value in entry["layers"].items()
            )
            lines.append(f"  {entry['name']:<{width}}  {shown(entry['value']):<12}  {layers}")
    return "\n".join(lines) + "\n"


def _walk(boot: Boot) -> None:
    """Go through the boot; what it would wait for has happened."""
    requests = boot.run()
    answer: Any = None
    try:
        while True:
            request: Request = requests.send(answer)
            nothing = isinstance(request, WaitForCprState)
            answer = CprChannel((), lambda: None) if nothing else None
    except StopIteration:
        boot.finish()


def _steps(vm: Machine) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    events: list[str] = []
    early: list[dict[str, Any]] = []
    for entry in vm.journal:
        if entry.kind == "boot":
            steps.append(_step(entry.name, entry.data, events, early))
            events, early = [], []
        elif entry.kind == "early-read":
            early.append({"name": entry.name, "value": entry.data["value"]})
        elif entry.kind == "phase" and steps:
            steps[-1]["phase"] = entry.name
        elif entry.kind == "event":
            events.append(entry.name)
    return steps


def _step(
    name: str, read: dict[str, Any], events: list[str], early: list[dict[str, Any]]
) -> dict[str, Any]:
    return {"step": name, "reads": read, "phase": None, "events": events, "early-reads": early}


def _layers(found: Explanation) -> dict[str, Any]:
    return {
        "name": found.name,
        "value": found.value,
        "layer": None if found.winner is None else found.winner.value,
        "layers": {layer.value: value for layer, value in found.layers.items()},
    }


def shown(value: Any) -> str:
    """A JSON value on one line, as it would be typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "-"
    if isinstance(value, list):
        return "[" + " ".join(shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + " ".join(f"{key}={shown(item)}" for key, item in value.items()) + "}"
    return str(value) if value != "" else "''"
