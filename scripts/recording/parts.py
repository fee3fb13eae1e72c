"""The parts of a profile that do not depend on the machine type.

Each function asks one thing and returns the part's value as `fakeqemu.profile` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from recording.qemu import Qemu, Reply, ask_surviving, output

#: a machine without anything, for questions about the program
NONE = ("-machine", "none", "-nodefaults", "-accel", "tcg")

#: an argument no command has: names it as unexpected, or says that the phase is wrong
BOGUS = {"no-such-argument": 0}

#: what can be answered with a list: `-OPTION help`
HELP = (
    *("-accel help", "-audio help", "-audiodev help", "-chardev help", "-cpu help"),
    *("-device help", "-display help", "-machine help", "-netdev help", "-nic help"),
    *("-object help", "-tpmdev help", "-vga help", "-version", "-audio-help"),
)

#: replies about the connection that asks, or about the moment
OWN = frozenset({"query-chardev", "query-cpus-fast", "query-iothreads", "query-stats"})

#: commands about other targets, with arguments that pass; a binary for several targets has them
FOREIGN: dict[str, dict[str, Any]] = {
    "dump-skeys": {"filename": "/dev/null"},
    "inject-ghes-v2-error": {"cper": ""},
    "query-cpu-model-baseline": {"modela": {"name": "a"}, "modelb": {"name": "b"}},
    "query-cpu-model-comparison": {"modela": {"name": "a"}, "modelb": {"name": "b"}},
    "query-gic-capabilities": {},
    "query-s390x-cpu-polarization": {},
    "set-cpu-topology": {"core-id": 0},
}

_TOO_EARLY = "only after machine initialization"


def record_commands(binary: str) -> dict[str, Any]:
    """`commands` in the order of query-commands, `preconfig` those allowed early.

    `foreign`: name and error text of those that are there for other targets only.
    """
    with Qemu(binary, *NONE, "-preconfig") as qemu:
        names = [c["name"] for c in qemu.value("query-commands")]
        replies = qemu.ask_all([(name, BOGUS) for name in names])
    early = [
        name
        for name, reply in zip(names, replies, strict=True)
        if _TOO_EARLY not in reply.get("error", {}).get("desc", "")
    ]
    known = [(name, FOREIGN[name]) for name in names if name in FOREIGN]
    refused = {
        name: reply["error"]["desc"]
        for (name, _), reply in zip(known, ask_surviving(binary, NONE, known), strict=True)
        if reply is not None and "error" in reply
    }
    return {"commands": names, "preconfig": sorted(early), "foreign": refused}


def record_queries(binary: str, schema: list[dict[str, Any]]) -> dict[str, Reply]:
    """The replies of all stable query commands that need no argument."""
    types = {entry["name"]: entry for entry in schema}
    big = {"query-qmp-schema", "query-commands", "query-machines", "query-command-line-options"}
    big |= {"query-cpu-definitions", "query-migrate-parameters", "query-migrate-capabilities"}
    names = [
        entry["name"]
        for entry in schema
        if entry["meta-type"] == "command"
        and re.match("(x-)?query-", entry["name"])
        and entry["name"] not in big | OWN
        and all("default" in member for member in types[entry["arg-type"]]["members"])
    ]
    runs = [ask_surviving(binary, NONE, [(name, {}) for name in names]) for _ in range(2)]
    return {
        name: first
        for name, first, second in zip(names, *runs, strict=True)
        if first is not None
        and first == second
        and first.get("error", {}).get("class") != "CommandNotFound"
    }


def record_help(binary: str) -> dict[str, str]:
    """The text printed for each request of HELP that the binary can answer."""
    texts = {}
    for request in HELP:
        code, text, _ = output(binary, *request.split())
        if code == 0 and text:
            texts[request] = text
    return texts


def record_types(binary: str) -> dict[str, Any]:
    """`types` as [name, parent, abstract] and the `interfaces` with their implementors."""
    with Qemu(binary, *NONE) as qemu:
        every = qemu.value("qom-list-types", {"abstract": True})
        interfaces = ["interface"]
        for root in interfaces:
            interfaces += [t["name"] for t in every if t.get("parent") == root]
        lists = qemu.ask_all(
            [("qom-list-types", {"implements": i, "abstract": True}) for i in interfaces]
        )
    return {
        "types": [[t["name"], t.get("parent"), t.get("abstract", False)] for t in every],
        "interfaces": {
            name: [t["name"] for t in reply["return"]]
            for name, reply in zip(interfaces, lists, strict=True)
        },
    }


def record_properties(binary: str, types: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`device` and `qom` properties by type; types that end the program are left out.

    Types that live in loadable modules are there only once all types have been listed.
    """
    names = list(types)
    found: dict[str, dict[str, Any]] = {}
    for key, command in (("device", "device-list-properties"), ("qom", "qom-list-properties")):
        requests = [(command, {"typename": n}) for n in names]
        replies = ask_surviving(binary, NONE, requests, first=("qom-list-types", {}))
        found[key] = {
            name: reply["return"]
            for name, reply in zip(names, replies, strict=True)
            if reply is not None and "return" in reply
        }
    return found


def record_cpus(binary: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Reply]]]:
    """query-cpu-definitions, and every model's expansions by kind."""
    with Qemu(binary, *NONE) as qemu:
        definitions: list[dict[str, Any]] = qemu.value("query-cpu-definitions")
    names = [d["name"] for d in definitions]
    expansions: dict[str, dict[str, Reply]] = {}
    for kind in ("static", "full"):
        requests = [
            ("query-cpu-model-expansion", {"type": kind, "model": {"name": name}})
            for name in names
        ]
        replies = ask_surviving(binary, NONE, requests)
        expansions[kind] = {
            name: reply for name, reply in zip(names, replies, strict=True) if reply is not None
        }
    return definitions, expansions


def record_compat(binary: str) -> list[dict[str, Any]]:
    """query-machines, with compat-props where the version can tell them."""
    with Qemu(binary, *NONE) as qemu:
        reply = qemu.ask("query-machines", {"compat-props": True})
        if "error" in reply:
            reply = qemu.ask("query-machines")
    machines: list[dict[str, Any]] = reply["return"]
    return machines


def record_trace_events(binary: str) -> dict[str, list[str]]:
    """`names` of all trace events in the order QMP lists them, `vcpu` those of single CPUs."""
    with Qemu(binary, *NONE) as qemu:
        found = qemu.value("trace-event-get-state", {"name": "*"})
    return {
        "names": [event["name"] for event in found],
        "vcpu": [event["name"] for event in found if event.get("vcpu")],
    }
