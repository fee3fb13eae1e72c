"""The one table of what a tester may do to a machine.

The handle (`FakeQemu`, with and without await), the control socket, the stages of scenario and
fleet files and the channel to a machine in another process read it. A verb's arguments are
checked here, the same way and with the same words wherever they come from; whatever they name is
looked up in the machine's profile, so a file can be checked before anything starts.
`MachineController` has a method for each verb, which gets the arguments as `Verb.build` left them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.plainschema import plain_schema
from fakeqemu.qapi.validate import check_event
from fakeqemu.qapi.visitor import check_arguments
from fakeqemu.testing.clock.duration import is_countable
from fakeqemu.testing.faults.build import build_fault, build_faults
from fakeqemu.testing.machine.guest import check_verb
from fakeqemu.testing.machine.stubs import build_stub
from fakeqemu.testing.names import check_name

Arguments = dict[str, Any]


def _same(_profile: Profile, arguments: Arguments) -> Arguments:
    return arguments


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing a tester may do."""

    #: what it does, amounts with their units
    does: str
    #: argument -> its type on the control socket, with "?" where it may be left out
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: where the handle has it, from there on: "faults.add"; empty: nowhere
    handle: str = ""
    control: bool = False
    stage: bool = False
    #: the argument that a stage gives as the verb's value: { event = "STOP" }
    value: str = ""
    #: the argument that gathers what else a stage or a Python call names
    rest: str = ""
    #: arguments that only a handle gives
    private: tuple[str, ...] = ()
    #: checks what the arguments name and makes of them what the controller wants
    build: Callable[[Profile, Arguments], Arguments] = _same


@dataclass(frozen=True, slots=True)
class Prepared:
    """A verb with arguments that are right for a profile."""

    verb: str
    arguments: Arguments


def prepare(verb: str, arguments: Mapping[str, Any], profile: Profile) -> Prepared:
    """Check a verb's arguments. Raises ValueError; UnknownNameError with the nearest name."""
    given = {
        key.rstrip("_").replace("_", "-"): value
        for key, value in arguments.items()
        if value is not None
    }
    try:
        checked = check_arguments(_SCHEMA, verb, given)
    except QapiError as error:
        raise ValueError(error.desc) from None
    for name, kind in VERBS[verb].arguments.items():
        if kind.startswith("number") and name in checked and not is_countable(checked[name]):
            raise ValueError(f"{name} is more than a clock counts: {checked[name]}")
    return Prepared(verb, VERBS[verb].build(profile, checked))


# -- what the arguments name -----------------------------------------------------------------------


def _object(arguments: Arguments, name: str) -> dict[str, Any]:
    value = arguments.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value


def _fault(profile: Profile, arguments: Arguments) -> Arguments:
    parameters = _object(arguments, "parameters")
    return {"faults": build_faults(arguments["name"], parameters, profile)}


def _exit(profile: Profile, arguments: Arguments) -> Arguments:
    return {"fault": build_fault("exit", arguments, profile)}


def _event(profile: Profile, arguments: Arguments) -> Arguments:
    check_name("event", arguments["name"], profile.schema.events)
    check_event(profile.schema, arguments["name"], arguments.get("data"))
    return arguments


def _qmp(profile: Profile, arguments: Arguments) -> Arguments:
    check_name("command", arguments["command"], profile.schema.commands)
    _object(arguments, "arguments")
    return arguments


def _guest(_profile: Profile, arguments: Arguments) -> Arguments:
    check_verb(arguments["verb"], _object(arguments, "parameters"))
    return arguments


def _query_journal(_profile: Profile, arguments: Arguments) -> Arguments:
    if "kind" in arguments:
        from fakeqemu.journal_kinds import KINDS

        check_name("kind of journal entry", arguments["kind"], KINDS)
    for name in ("first", "limit", "last", "wait"):
        if arguments.get(name, 0) < 0:
            raise ValueError(f"{name} must not be negative")
    return arguments


def _stub(profile: Profile, arguments: Arguments) -> Arguments:
    return {"stub": build_stub(profile.schema, arguments)}


def _stage(profile: Profile, arguments: Arguments) -> Arguments:
    from fakeqemu.testing.scenarios.stages import build_stage

    stage = build_stage(arguments)
    stage.actions(profile)
    return {"stage": stage}


# -- the table -------------------------------------------------------------------------------------

VERBS: Mapping[str, Verb] = {
    "fault": Verb(
        "add a fault, or those of a named scenario; each as query-faults shows it",
        {"name": "str", "parameters": "any?"},
        handle="faults.add", control=True, stage=True, value="name", rest="parameters",
        build=_fault,
    ),
    "remove-fault": Verb(
        "take a fault away; what it holds goes on",
        {"number": "int"}, handle="faults.remove", control=True,
    ),
    "clear-faults": Verb(
        "take all faults away", handle="faults.clear", control=True, stage=True
    ),
    "query-faults": Verb(
        "the faults there are: number, name, how often each has struck (hits), and what differs "
        "from the default",
        handle="faults.list", control=True,
    ),
    "stop-process": Verb(
        "stop the process, as by SIGSTOP; it goes on after so many seconds by the wall",
        {"seconds": "number?"},
        handle="faults.stop_process", control=True, stage=True, value="seconds",
    ),
    "continue-process": Verb(
        "let it go on, as by SIGCONT, with what has come meanwhile",
        handle="faults.continue_process", control=True, stage=True,
    ),
    "drop-channels": Verb(
        "break the migration channels that are open; how many",
        handle="faults.drop_channels", control=True, stage=True,
    ),
    "drop-connections": Verb(
        "hang up on the clients of all monitors",
        handle="faults.drop_connections", control=True, stage=True,
    ),
    "remove-socket": Verb(
        "delete the socket files of the character devices",
        handle="faults.remove_socket", control=True, stage=True,
    ),
    "exit": Verb(
        "end the process, with an exit status (1) or by a signal: \"KILL\" or its number",
        {"code": "int?", "signal": "any?"},
        handle="faults.exit", control=True, stage=True, value="code", build=_exit,
    ),
    "event": Verb(
        "let the machine send an event, whatever its state",
        {"name": "str", "data": "any?"},
        handle="send_event", control=True, stage=True, value="name", build=_event,
    ),
    "qmp": Verb(
        "execute a QMP command, past all faults; what it returns",
        {"command": "str", "arguments": "any?"},
        handle="qmp", control=True, stage=True, value="command", build=_qmp,
    ),
    "guest": Verb(
        "let the guest do something by itself, or say how it is to react",
        {"verb": "str", "parameters": "any?"},
        handle="guest", control=True, stage=True, value="verb", rest="parameters", build=_guest,
    ),
    "stub": Verb(
        "answer a command with a value, or refuse it with an error, so many times; its number",
        {
            "command": "str", "return": "any?", "class": "str?", "desc": "str?", "times": "int?",
            "schema": "bool?", "function": "str?", "number": "int?",
        },
        handle="stubs.replace", control=True, private=("function", "number"), build=_stub,
    ),
    "remove-stub": Verb(
        "take a stub back", {"number": "int"}, handle="stubs.remove", control=True
    ),
    "stage": Verb(
        "let something happen when the machine does something, after so many times (skip), so "
        "often (times; 0: always)",
        {"when": "any", "then": "any", "skip": "int?", "times": "int?"},
        control=True, build=_stage,
    ),
    "query-journal": Verb(
        "what happened, from an entry's number on (first), at most so many entries (limit) or the "
        "last so many; where there is nothing yet, what comes within so many seconds (wait)",
        {"kind": "str?", "name": "str?", "first": "int?", "limit": "int?", "last": "int?",
         "wait": "number?"},
        handle="journal", control=True, build=_query_journal,
    ),
    "now": Verb("nanoseconds of the machine's clock", handle="now", control=True),
    "advance": Verb(
        "move a virtual clock so many seconds on; nanoseconds of the clock then",
        {"seconds": "number"}, handle="advance", control=True,
    ),
    "jump": Verb(
        "move a virtual clock to the next timer; whether there was one",
        handle="jump", control=True,
    ),
    "run-until-idle": Verb(
        "move a virtual clock until no timer is left; how many there were, -1 after limit",
        {"limit": "int?"}, handle="run_until_idle", control=True,
    ),
    # between a handle and its machine only
    "session-request": Verb(
        "send a QMP request on the tester's own session; the reply", {"message": "any"}
    ),
    "workload": Verb(
        "what a migration has to carry, as members of Workload", {"members": "any"}
    ),
    "set-seed": Verb("what is left to chance follows this number", {"seed": "int"}),
    "catch-up": Verb("move the clock to a time in nanoseconds", {"to": "int"}),
    "skip": Verb(
        "move the clock to a time in nanoseconds, up to which nothing is due", {"to": "int"}
    ),
    "next-at": Verb("when the next timer is due, in nanoseconds; null if none is"),
    "settle": Verb("wait until the sockets are quiet; how often they have been busy so far"),
}  # fmt: skip
_SCHEMA = plain_schema({name: dict(verb.arguments) for name, verb in VERBS.items()})
