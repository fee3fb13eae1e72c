"""What a fresh machine of each type shows: queries, migration object, QOM tree."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recording.qemu import Gone, Qemu, Reply, output

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

#: properties that tell of the moment or of the process; null is kept in place of their value
VOLATILE = frozenset({"rtc-time", "date", "thread-id", "guid", "osk"})

#: objects that are there only because something asks
OURS = re.compile(r"recorder|compat_monitor\d+")


def record_machines(
    binary: str, names: list[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(data by machine, trees by kind and machine); what cannot start is left out."""
    jobs = [(name, kind) for name in names for kind in ("nodefaults", "defaults")]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: _machine(binary, *job), jobs))
    data: dict[str, Any] = {}
    trees: dict[str, dict[str, Any]] = {"nodefaults": {}, "defaults": {}}
    for (name, kind), result in zip(jobs, results, strict=True):
        if result is not None:
            trees[kind][name] = result[1]
            if kind == "nodefaults":
                data[name] = result[0]
            else:
                data[name].update({f"{k}-defaults": result[0][k] for k in ("pci", "block")})
    return data, trees


def describe_machines(binary: str, names: list[str]) -> dict[str, Any]:
    """`desc` and `options` by machine, from the help texts."""
    about: dict[str, Any] = {}
    for line in output(binary, "-machine", "help")[1].splitlines()[1:]:
        name, _, rest = line.partition(" ")
        desc = re.sub(r"( \((default|deprecated|alias of [^)]*)\))+$", "", rest.strip())
        about[name] = {"desc": desc}
    with ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda name: output(binary, "-machine", f"{name},help")[1], names)
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


def _machine(binary: str, name: str, kind: str) -> tuple[dict[str, Any], Any] | None:
    argv = ["-machine", name, "-accel", "tcg", "-S"]
    if kind == "nodefaults":
        argv.append("-nodefaults")
    try:
        with Qemu(binary, *argv) as qemu:
            found: dict[str, Any] = {}
            for key, command in QUERIES.items():
                reply = qemu.ask(command)
                found[key] = reply.get("return")
            found["globals"] = _globals(qemu)
            for cpu in found["cpus"] or ():
                cpu["thread-id"] = 0
            tree = walk(qemu)
        found["warnings"] = [w for w in qemu.warnings() if "recorder" not in w]
    except Gone:
        return None
    return found, tree


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
            properties = [p for p in reply["return"] if not OURS.fullmatch(p["name"])]
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
