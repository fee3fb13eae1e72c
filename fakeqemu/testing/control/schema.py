"""The control socket's own schema: its commands as data, in the form of query-qmp-schema.

Everything that is asked for goes through the same checks as QMP's commands, and a client may
read the schema there as it would read QEMU's.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.qapi.plainschema import entries_of, plain_schema
from fakeqemu.qapi.schema import Schema

#: command -> (member -> type, with "?" where it may be left out; what it is for)
COMMANDS: dict[str, tuple[dict[str, str], str]] = {
    "qmp_capabilities": ({"enable": "any?"}, "negotiate, as in QMP"),
    "query-version": ({}, "fakeqemu's version"),
    "query-commands": ({}, "the commands there are"),
    "query-qmp-schema": ({}, "this schema"),
    "help": ({"command": "str?"}, "what the commands, or one of them, are for"),
    "query-machines": ({}, "the machines behind this socket"),
    "query-scenarios": ({}, "the named scenarios"),
    "fault-add": (
        {"machine": "str?", "name": "str", "parameters": "any?"},
        "add a fault or a named scenario; the numbers of its faults",
    ),
    "fault-remove": ({"machine": "str?", "number": "int"}, "take a fault away"),
    "fault-clear": ({"machine": "str?"}, "take all away"),
    "query-faults": ({"machine": "str?"}, "the faults there are"),
    "stage-add": (
        {"machine": "str?", "when": "any", "then": "any", "skip": "int?", "times": "int?"},
        "let something happen when the machine does something",
    ),
    "process-stop": ({"machine": "str?", "seconds": "number?"}, "as by SIGSTOP"),
    "process-continue": ({"machine": "str?"}, "as by SIGCONT"),
    "channels-drop": ({"machine": "str?"}, "break the migration channels; how many"),
    "connections-drop": ({"machine": "str?"}, "hang up on the clients"),
    "event-send": (
        {"machine": "str?", "name": "str", "data": "any?"}, "let the machine send an event"
    ),
    "clock-now": ({"machine": "str?"}, "nanoseconds of the machine's clock"),
    "clock-advance": ({"machine": "str?", "seconds": "number"}, "move a virtual clock"),
    "clock-jump": ({"machine": "str?"}, "move a virtual clock to the next timer"),
    "clock-run-until-idle": (
        {"machine": "str?", "limit": "int?"},
        "move a virtual clock until no timer is left; how many there were",
    ),
    "guest-do": (
        {"machine": "str?", "verb": "str", "parameters": "any?"},
        "let the guest do something by itself, or say how it is to react",
    ),
    "stub-add": (
        {
            "machine": "str?", "command": "str", "return": "any?", "class": "str?",
            "desc": "str?", "times": "int?", "schema": "bool?",
        },
        "answer a command with a value, or refuse it with an error; the stub's number",
    ),
    "stub-remove": ({"machine": "str?", "number": "int"}, "take a stub away"),
    "query-journal": (
        {"machine": "str?", "kind": "str?", "name": "str?", "from": "int?", "limit": "int?"},
        "what happened",
    ),
    "quit": ({"machine": "str?", "code": "int?"}, "end the machine"),
}  # fmt: skip


def entries() -> list[dict[str, Any]]:
    """The schema as query-qmp-schema shows one."""
    return entries_of(_members())


def control_schema() -> Schema:
    """The schema, for the checks."""
    return plain_schema(_members())


def _members() -> dict[str, dict[str, str]]:
    return {command: members for command, (members, _) in COMMANDS.items()}
