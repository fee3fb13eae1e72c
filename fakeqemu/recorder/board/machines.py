"""What a fresh machine of each type shows: queries, migration object, QOM tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

from fakeqemu.recorder.board.visits import Visits
from fakeqemu.recorder.qemu import Emulator, Gone, Qemu, Reply, output

#: what is asked of each machine: the name in the record and the command
QUERIES = {
    "capabilities": "query-migrate-capabilities",
    "cpus": "query-cpus-fast",
    "hotpluggable": "query-hotpluggable-cpus",
    "memory": "query-memory-size-summary",
    "memdevs": "query-memdev",
    "parameters": "query-migrate-parameters",
    "pci": "query-pci",
    "current-machine": "query-current-machine",
    "acpi": "query-acpi-ospm-status",
    "block": "query-block",
}
#: what a machine with several CPUs is asked to have, besides as many CPUs as that makes: the
#: first that it takes is recorded
_TOPOLOGIES: tuple[tuple[dict[str, int], tuple[str, ...]], ...] = (
    ({"sockets": 2, "clusters": 2, "cores": 2, "threads": 2}, ("clusters",)),
    ({"drawers": 2, "books": 2, "sockets": 2, "cores": 2}, ("drawers", "books")),
    ({"sockets": 2, "dies": 2, "cores": 2, "threads": 2}, ("dies",)),
    ({"sockets": 2, "cores": 2, "threads": 2}, ()),
    ({"sockets": 2, "cores": 2}, ()),
    ({"sockets": 1, "cores": 2}, ()),
    ({"sockets": 2, "cores": 1}, ()),
)

#: properties that tell of the moment or of the process; null is kept in place of their value
VOLATILE = frozenset({"rtc-time", "date", "thread-id", "guid", "osk"})

#: objects that are there only because something asks
OURS = re.compile(r"recorder(-ports)?|compat_monitor\d+")
#: what the machine has for a qtest server; see system/qtest.c: qtest_server_init()
_LINK_TO_OURS = "link<qtest>"


def record_machines(
    visits: Visits, names: list[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(data by machine, trees by kind and machine); what cannot start is left out."""
    jobs = [(name, kind) for name in names for kind in ("nodefaults", "defaults")]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: visits.machine(job[0], job[1], machine_facts), jobs))
    data: dict[str, Any] = {}
    trees: dict[str, dict[str, Any]] = {"nodefaults": {}, "defaults": {}}
    for (name, kind), seen in zip(jobs, results, strict=True):
        if seen is not None:
            found, trees[kind][name] = seen.own
            if kind == "nodefaults":
                data[name] = {**found, "warnings": seen.warnings}
            elif name in data:
                data[name].update({f"{k}-defaults": found[k] for k in ("pci", "block", "chardevs")})
    return data, trees


def describe_machines(emulator: Emulator, names: list[str]) -> dict[str, Any]:
    """`desc` and `options` by machine, from the help texts."""
    about: dict[str, Any] = {}
    for line in output(emulator, "-machine", "help")[1].splitlines()[1:]:
        name, _, rest = line.partition(" ")
        desc = re.sub(r"( \((default|deprecated|alias of [^)]*)\))+$", "", rest.strip())
        about[name] = {"desc": desc}
    with ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda name: output(emulator, "-machine", f"{name},help")[1], names)
        for name, text in zip(names, texts, strict=True):
            about.setdefault(name, {"desc": ""})["options"] = text.splitlines()[1:]
    return about


def add_deprecations(about: dict[str, Any], data: dict[str, Any]) -> None:
    """Move the reason why a type is deprecated from its warnings to what is known about it."""
    for name, found in data.items():
        for line in list(found["warnings"]):
            if match := re.fullmatch(r"(?:warning: )?Machine type '.*?' is deprecated: (.*)", line):
                about[name]["deprecation"] = match[1]
                found["warnings"].remove(line)


def add_migration_compat(entries: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Where the version does not tell compat properties, those of the migration object.

    They show on a fresh machine as differences from `-machine none`.
    """
    plain = data["none"]
    for entry in entries:
        found = data.get(entry["name"])
        if "compat-props" in entry or found is None:
            continue
        entry["compat-props"] = [
            {"qom-type": "migration", "property": name, "value": value}
            for kind in ("globals", "parameters")
            for name, value in found[kind].items()
            if value != plain[kind].get(name)
        ]


def machine_facts(qemu: Qemu) -> tuple[dict[str, Any], dict[str, Any]]:
    """What QUERIES give of a machine, and its tree."""
    found: dict[str, Any] = {}
    for key, command in QUERIES.items():
        reply = qemu.ask(command)
        found[key] = reply.get("return")
    found["globals"] = _globals(qemu)
    for cpu in found["cpus"] or ():
        cpu["thread-id"] = 0
    labels = (each["label"] for each in qemu.value("query-chardev"))
    found["chardevs"] = sorted(label for label in labels if not OURS.fullmatch(label))
    return found, walk(qemu)


def record_topologies(emulator: Emulator, data: dict[str, Any], most: Mapping[str, int]) -> None:
    """Add to the data of each machine type how it numbers CPUs, where it can have several.

    `most`: the CPUs that each can have.
    """
    names = [name for name in data if most[name] > 1 and data[name]["cpus"]]
    with ThreadPoolExecutor(2) as pool:
        for name, found in zip(
            names, pool.map(lambda n: _topology(emulator, n, most[n]), names), strict=True
        ):
            if found is not None:
                data[name]["topology"] = found


def _topology(emulator: Emulator, name: str, most: int) -> dict[str, Any] | None:
    """`levels` of -smp, those that are `special`, and what is seen of the CPUs."""
    for levels, special in _TOPOLOGIES:
        number = prod(levels.values())
        if number > most:
            continue
        text = ",".join([str(number), *(f"{level}={n}" for level, n in levels.items())])
        try:
            with Qemu(emulator, *emulator.machine(name, "-nodefaults", "-smp", text)) as qemu:
                cpus = qemu.value("query-cpus-fast")
                slots = qemu.ask("query-hotpluggable-cpus").get("return")
                trees = [walk(qemu, cpu["qom-path"]) for cpu in cpus[:2]]
        except Gone:
            continue
        for cpu in cpus:
            cpu["thread-id"] = 0
        own = cpus[0].get("props", {})
        first, second = (tree["values"] for tree in trees)
        differ = {
            key: value
            for key, value in second.items()
            if value != first.get(key) and not isinstance(value, str) and key not in own
        }
        return {"levels": levels, "special": list(special), "cpus": cpus, "slots": slots,
                "cpu-values": differ, "type": trees[0]["type"]}
    return None


def _globals(qemu: Qemu) -> dict[str, str]:
    """Members of the migration object that only the human monitor shows."""
    lines = (qemu.hmp("info migrate -a") + qemu.hmp("info migrate")).splitlines()
    found = {}
    for start, line in enumerate(lines):
        if line.lower() == "globals:":
            for inner in lines[start + 1 :]:
                if not (match := re.fullmatch(r"\s*([a-z-]+): (on|off|\d+)", inner)):
                    break
                found[match[1]] = match[2]
    return found


def walk(qemu: Qemu, root: str = "") -> dict[str, Any]:
    """The object at `root`: type, properties, values, errors, children of the same shape."""
    objects: dict[str, dict[str, Any]] = {}
    level = [root]
    while level:
        lists = qemu.ask_all([("qom-list", {"path": path or "/"}) for path in level])
        below = []
        for path, reply in zip(level, lists, strict=True):
            properties = [
                p
                for p in reply["return"]
                if not OURS.fullmatch(p["name"]) and p["type"] != _LINK_TO_OURS
            ]
            objects[path] = {
                "type": "",
                "properties": [[p["name"], p["type"]] for p in properties],
                "values": {},
                "errors": {},
                "children": {},
            }
            below += [f"{path}/{p['name']}" for p in properties if _is_child(p["type"])]
        _read_values(qemu, objects, level)
        level = below
    for path in sorted(objects, key=len, reverse=True):
        if path != root:
            parent, name = path.rsplit("/", 1)
            objects[parent]["children"][name] = objects[path]
    return objects[root]


def _is_child(kind: str) -> bool:
    return kind.startswith("child<")


def _read_values(qemu: Qemu, objects: dict[str, dict[str, Any]], paths: list[str]) -> None:
    wanted = [
        (path, name)
        for path in paths
        for name, kind in objects[path]["properties"]
        if not _is_child(kind)
    ]
    replies: list[Reply] = qemu.ask_all(
        [("qom-get", {"path": path or "/", "property": name}) for path, name in wanted]
    )
    for (path, name), reply in zip(wanted, replies, strict=True):
        target = objects[path]
        if "error" in reply:
            target["errors"][name] = reply["error"]
        elif name == "type":
            target["type"] = reply["return"]
        elif name in VOLATILE:
            target["values"][name] = None
        else:
            target["values"][name] = reply["return"]
