"""The parts of a profile that do not depend on the machine type.

Each function asks one thing and returns the part's value as `fakeqemu.profile` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fakeqemu.profile import Profile, store
from fakeqemu.recorder.qemu import Emulator, Qemu, Reply, ask_surviving, output

#: an argument no command has: names it as unexpected, or says that the phase is wrong
BOGUS = {"no-such-argument": 0}

#: what can be answered with a list: `-OPTION help`
HELP = (
    *("-accel help", "-audio help", "-audiodev help", "-chardev help", "-cpu help"),
    *("-device help", "-display help", "-machine help", "-netdev help", "-nic help"),
    *("-object help", "-tpmdev help", "-vga help", "-version", "-audio-help"),
    "-drive format=help",
)

#: the human monitor's list of all device types, those that no user can create included
DEVICES = "info qdm"

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

_MODEL = "base"
_WARNING = "TCG doesn't support requested feature: "
#: switches that decide about features, or about the CPU as a device, and one (mpx) that another
#: excludes
_OTHERS = frozenset({"check", "enforce", "force-features", "start-powered-off", "mpx"})
_QUIT = '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'
#: how a command says that it is for another target
_FOREIGN = re.compile(r"this target|this architecture|not compiled in")
_TOO_EARLY = "only after machine initialization"


def record_commands(emulator: Emulator) -> dict[str, Any]:
    """`commands` in the order of query-commands, `preconfig` those allowed early.

    `foreign`: name and error text of those that are there for other targets only.
    """
    with Qemu(emulator, *emulator.none, "-preconfig") as qemu:
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
        for (name, _), reply in zip(
            known, ask_surviving(emulator, emulator.none, known), strict=True
        )
        if reply is not None and _FOREIGN.search(reply.get("error", {}).get("desc", ""))
    }
    return {"commands": names, "preconfig": sorted(early), "foreign": refused}


def record_queries(emulator: Emulator, schema: list[dict[str, Any]]) -> dict[str, Reply]:
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
    runs = [
        ask_surviving(emulator, emulator.none, [(name, {}) for name in names]) for _ in range(2)
    ]
    return {
        name: first
        for name, first, second in zip(names, *runs, strict=True)
        if first is not None
        and first == second
        and first.get("error", {}).get("class") != "CommandNotFound"
    }


def record_help(emulator: Emulator) -> dict[str, str]:
    """The text printed for each request of HELP that the binary can answer."""
    texts = {}
    for request in HELP:
        # some are only answered when there is a machine type, and not every target has a usual one
        for before in ([], ["-machine", "none"]):
            code, text, said = output(emulator, *before, *request.split())
            if code == 0 and text:
                texts[request] = text
            if "No machine specified" not in said:
                break
    with Qemu(emulator, *emulator.none) as qemu:
        texts[DEVICES] = qemu.hmp(DEVICES).replace("\r", "")
    return texts


def record_types(emulator: Emulator) -> dict[str, Any]:
    """`types` as [name, parent, abstract] and the `interfaces` with their implementors."""
    with Qemu(emulator, *emulator.none) as qemu:
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


def record_properties(emulator: Emulator, types: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`device` and `qom` properties by type; types that end the program are left out.

    Types that live in loadable modules are there only once all types have been listed.
    """
    names = list(types)
    found: dict[str, dict[str, Any]] = {}
    for key, command in (("device", "device-list-properties"), ("qom", "qom-list-properties")):
        requests = [(command, {"typename": n}) for n in names]
        replies = ask_surviving(emulator, emulator.none, requests, first=("qom-list-types", {}))
        found[key] = {
            name: reply["return"]
            for name, reply in zip(names, replies, strict=True)
            if reply is not None and "return" in reply
        }
    return found


def record_cpus(emulator: Emulator) -> tuple[list[dict[str, Any]], dict[str, dict[str, Reply]]]:
    """query-cpu-definitions, and every model's expansions by kind."""
    with Qemu(emulator, *emulator.none) as qemu:
        definitions: list[dict[str, Any]] = qemu.value("query-cpu-definitions")
    names = [d["name"] for d in definitions]
    expansions: dict[str, dict[str, Reply]] = {}
    for kind in ("static", "full"):
        requests = [
            ("query-cpu-model-expansion", {"type": kind, "model": {"name": name}}) for name in names
        ]
        replies = ask_surviving(emulator, emulator.none, requests)
        expansions[kind] = {
            name: reply for name, reply in zip(names, replies, strict=True) if reply is not None
        }
    unknown: tuple[str, dict[str, Any]] = (
        "query-cpu-model-expansion",
        {"type": "full", "model": {"name": store.UNKNOWN_MODEL}},
    )
    (refusal,) = ask_surviving(emulator, emulator.none, [unknown])
    if refusal is not None and "error" in refusal:
        expansions["unknown"] = {"full": refusal}
    return definitions, expansions


def record_compat(emulator: Emulator) -> list[dict[str, Any]]:
    """query-machines, with compat-props where the version can tell them."""
    with Qemu(emulator, *emulator.none) as qemu:
        reply = qemu.ask("query-machines", {"compat-props": True})
        if "error" in reply:
            reply = qemu.ask("query-machines")
    machines: list[dict[str, Any]] = reply["return"]
    return machines


def record_trace_events(emulator: Emulator) -> dict[str, list[str]]:
    """`names` of all trace events in the order QMP lists them, `vcpu` those of single CPUs."""
    with Qemu(emulator, *emulator.none) as qemu:
        found = qemu.value("trace-event-get-state", {"name": "*"})
    return {
        "names": [event["name"] for event in found],
        "vcpu": [event["name"] for event in found if event.get("vcpu")],
    }


def record_block_drivers(emulator: Emulator, profile: Profile) -> dict[str, Any]:
    """The part's value."""
    unknown = []
    with Qemu(emulator, *emulator.none) as qemu:
        for name in profile.schema.enum_values("BlockdevDriver"):
            said = qemu.hmp(f"drive_add 0 if=none,id={name},driver={name}")
            if f"Unknown driver '{name}'" in said:
                unknown.append(name)
    return {"block-drivers": {"unknown": unknown}}


def record_cpu_features(emulator: Emulator) -> dict[str, Any]:
    """CPU features that TCG does not have, from a model without features that is asked for all.

    Part `cpu-features`: {"unsupported": [[name, text], ...]} in the order of the warnings; `text`
    is what follows "TCG doesn't support requested feature: ", such as `CPUID.01H:EDX.vme [bit 1]`.
    See target/i386/cpu.c: x86_cpu_filter_features().
    """
    with Qemu(emulator, *emulator.none) as qemu:
        entries = qemu.value("device-list-properties", {"typename": f"{_MODEL}-x86_64-cpu"})
    names = [
        entry["name"]
        for entry in entries
        if entry["type"] == "bool"
        and entry["name"] not in _OTHERS
        # Hyper-V's are no bits, and others' names are those of older machine types
        and not entry["name"].startswith(("hv-", "x-"))
    ]
    wanted = ",".join([_MODEL, *(f"+{name}" for name in names)])
    argv = emulator.machine("pc", "-nodefaults", "-display", "none", "-cpu", wanted)
    code, _, errors = output(emulator, *argv, "-qmp", "stdio", given=_QUIT)
    if code:
        raise RuntimeError(errors.strip().rpartition("\n")[2])
    found = []
    for line in errors.splitlines():
        _, warning, text = line.partition(_WARNING)
        if warning:
            found.append([_name(text, names), text])
    return {"cpu-features": {"unsupported": found}}


def _name(text: str, names: list[str]) -> str:
    """The feature that a warning is about: `CPUID.01H:ECX.sse4.1 [bit 19]` is of sse4.1."""
    word = text.partition(" [bit")[0]
    return max((name for name in names if word.endswith(f".{name}")), key=len, default="")
