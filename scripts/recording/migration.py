"""What stands against migrating: of each device type, and of each machine type as it starts.

Part `migratability`: {"devices": {type: ...}, "machines": {name: {"bare": ..., "full": ...}}}.
Each value has only the members that are not empty:

- `unmigratable`: names of sections that cannot be sent, each after the path of its device;
- `blockers`: reasons of explicit blockers;
- `cpr-blockers`: those that hold in mode cpr-transfer only, memory apart;
- `ram`: [block's name, the path of its device that stands before it, bytes used, bytes
  reserved]; of a device, whose path depends on where it is plugged, only whether there is one;
- `only-migratable`: text of the refusal under -only-migratable;
- `refusal`: lines that refuse a device that was not tried for the part `devices`, because it
  reaches for the host's hardware; without options it gets nowhere.

`bare` is a machine with -nodefaults, `full` one without it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recording.devices import HELPERS, surroundings
from recording.qemu import Gone, Qemu

_PATH = re.compile(r"(?:non-migratable device: )?(?:.*/)?([^/]+)")
_DEVICE = "non-migratable device: "
_MEMORY = re.compile(r"Memory region .* is not compatible with CPR\.")
_BLOCK = re.compile(r"\s*(\S+)\s+\d+ [KMG]iB" + 3 * r"\s+(0x[0-9a-f]+)")
_NOT_MIGRATABLE = re.compile(r"Device \S+ is not migratable, but --only-migratable was specified")
#: seconds for a start to be refused
_PATIENCE = 5
#: memory of helpers and of `-m` of the base machine
_OTHERS = frozenset({"m0", "pc.ram"})


def record_migratability(
    binary: str, devices: dict[str, Any], machines: dict[str, str | None]
) -> dict[str, Any]:
    """The part's value; `devices` is the part of that name, `machines` name -> id of its RAM."""
    users = [name for name, about in devices.items() if about["class"]["user"]]
    users = [name for name in users if not name.endswith("-x86_64-cpu")]

    def device(name: str) -> dict[str, Any]:
        return _device(binary, name, devices[name])

    def machine(name: str) -> dict[str, Any]:
        return {
            "bare": _machine(binary, name, machines[name], ["-nodefaults"]),
            "full": _machine(binary, name, machines[name], []),
        }

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(users, pool.map(device, users), strict=True))
        started = dict(zip(machines, pool.map(machine, machines), strict=True))
    return {
        "devices": {name: seen for name, seen in sorted(found.items()) if seen},
        "machines": dict(sorted(started.items())),
    }


def _device(binary: str, name: str, about: dict[str, Any]) -> dict[str, Any]:
    options = about.get("options") or {}
    extra = [argument for key in options for argument in HELPERS[key][0]]
    text = ",".join([name, "id=probe", *(f"{k}={v}" for k, v in options.items())])
    base = [*surroundings(name, about["class"]), *extra]
    if about.get("tree") is None:
        return _refused(binary, [*base, "-display", "none"], name, text, tried="error" in about)
    try:
        with Qemu(binary, *base) as qemu:
            before = _seen(qemu)
        with Qemu(binary, *base, "-device", text) as qemu:
            after = _seen(qemu)
    except Gone:
        return {}
    found: dict[str, Any] = {
        key: rest for key in after if (rest := _less(after[key], before.get(key, [])))
    }
    for block in found.get("ram", ()):
        block[1] = bool(block[1])
    if "unmigratable" in found:
        found.update(_refused(binary, [*base, "-display", "none"], name, text, tried=True))
    return found


def _refused(binary: str, base: list[str], name: str, text: str, *, tried: bool) -> dict[str, Any]:
    """What it says under -only-migratable; and without, unless that is known."""
    seen: dict[str, Any] = {}
    refusal = _NOT_MIGRATABLE.search(_errors(binary, *base, "-only-migratable", "-device", text))
    if refusal:
        seen["only-migratable"] = refusal[0]
    lines = [] if tried else _errors(binary, *base, "-device", name).splitlines()
    blame = f"-device {name}: "
    if lines and blame in lines[0]:
        seen["refusal"] = [lines[0].split(blame, 1)[1], *lines[1:]]
    return seen


def _errors(binary: str, *argv: str) -> str:
    """Standard error of a start; empty if it succeeds."""
    try:
        done = subprocess.run(
            [binary, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stderr if done.returncode == 1 else ""


def _less(after: list[Any], before: list[Any]) -> list[Any]:
    rest = list(after)
    for each in before:
        if each in rest:
            rest.remove(each)
    return rest


def _machine(binary: str, name: str, memory: str | None, options: Sequence[str]) -> dict[str, Any]:
    argv = ["-machine", name, "-accel", "tcg", "-S", *options]
    try:
        with Qemu(binary, *argv) as qemu:
            seen = _seen(qemu)
    except Gone:
        return {}
    seen["ram"] = [block for block in seen["ram"] if block[0] != memory]
    return {key: value for key, value in seen.items() if value}


def _seen(qemu: Qemu) -> dict[str, list[Any]]:
    reasons = _reasons(qemu)
    seen: dict[str, list[Any]] = {
        "unmigratable": [_name(r) for r in reasons if r.startswith(_DEVICE)],
        "blockers": [r for r in reasons if not r.startswith(_DEVICE)],
        "cpr-blockers": [],
        "ram": _blocks(qemu.hmp("info ramblock")),
    }
    if "return" in qemu.ask("migrate-set-parameters", {"mode": "cpr-transfer"}):
        more = [r for r in _reasons(qemu) if r not in reasons]
        seen["cpr-blockers"] = [r for r in more if not _MEMORY.match(r)]
    return seen


def _reasons(qemu: Qemu) -> list[str]:
    reasons: list[str] = qemu.value("query-migrate").get("blocked-reasons", [])
    return reasons


def _name(reason: str) -> str:
    match = _PATH.fullmatch(reason)
    assert match is not None
    return match[1]


def _blocks(text: str) -> list[Any]:
    """The RAM blocks of `info ramblock` in the order in which they were made."""
    found: list[tuple[int, list[Any]]] = []
    for line in text.splitlines():
        match = _BLOCK.match(line)
        if match is None:
            continue
        path, slash, name = match[1].rpartition("/")
        if not slash or not re.match(r"[0-9a-f]{4}:", path):
            path, name = "", match[1]
        if name not in _OTHERS:
            offset, used, reserved = (int(match[n], 16) for n in (2, 3, 4))
            found.append((offset, [name, path, used, reserved]))
    # addresses are given out in order of creation
    return [block for _, block in sorted(found)]
