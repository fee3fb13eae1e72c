"""Texts that a version prints, cut to what another one has.

See system/vl.c: machine_class_cmp() and machine_help_func(); target/i386/cpu.c: listflags() and
x86_cpu_list(); system/qdev-monitor.c: qdev_print_devinfo().
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from fakeqemu.recorder.parts import DEVICES

_DEVICE = re.compile(r'name "([^"]+)"')
_FLAGS = "Recognized CPUID flags:"
#: columns of its list
_WIDTH = 75
_SUFFIXES = re.compile(r"(?: \(alias of [^()]*\)| \(default\)| \(deprecated\))+$")


def descriptions(text: str) -> dict[str, str]:
    """`-machine help`: machine type -> what it says of it."""
    found = {}
    for line in text.split("\n")[1:]:
        name, _, rest = line.partition(" ")
        if name and "(alias of" not in rest:
            found[name] = _SUFFIXES.sub("", rest.strip())
    return found


def machine_help(text: str, entries: Iterable[dict[str, Any]], descs: dict[str, str]) -> str:
    """The text for the machine types of `query-machines`' `entries`."""
    by_name = {entry["name"]: entry for entry in entries}
    order = [name for name in descriptions(text) if name in by_name]
    for name in sorted(by_name.keys() - set(order)):
        family = name.rpartition("-")[0]
        # a family is listed from the last name to the first
        after = [i for i, each in enumerate(order)
                 if each.rpartition("-")[0] == family and each > name]
        order.insert(after[-1] + 1 if after else len(order), name)
    lines = text.split("\n")[:1]
    for name in order:
        entry, desc = by_name[name], descs.get(name, "")
        if "alias" in entry:
            lines.append(f"{entry['alias']:<20} {desc} (alias of {name})")
        marks = " (default)" * bool(entry.get("is-default"))
        marks += " (deprecated)" * bool(entry.get("deprecated"))
        lines.append(f"{name:<20} {desc}{marks}")
    return "\n".join((*lines, ""))


def devices(text: str, types: Collection[str]) -> str:
    """`-device help` and `info qdm`: without the types that are not there."""
    kept = [
        line
        for line in text.split("\n")
        if (found := _DEVICE.match(line)) is None or found[1] in types
    ]
    return "\n".join(kept)


def words(text: str, gone: Collection[str]) -> str:
    """A list with one word a line: without some."""
    return "\n".join(line for line in text.split("\n") if line.strip() not in gone)


def words_in_line(text: str, gone: Collection[str]) -> str:
    """A list of words in one line: without some."""
    return " ".join(word for word in text.split(" ") if word.strip() not in gone)


def cpus(text: str, models: Collection[str], flags: Collection[str] | None) -> str:
    """`-cpu help`: these models, and these flags of features; None: all."""
    head, mark, listed = text.partition(_FLAGS)
    lines = []
    for line in head.split("\n"):
        row = re.match(r"x86 (\S+)", line)
        if row is None or row[1] in models:
            lines.append(line)
    if not mark:
        return "\n".join(lines)
    kept = [flag for flag in listed.split() if flags is None or flag in flags]
    rows = [" "]
    for flag in kept:
        if len(rows[-1]) + 1 + len(flag) > _WIDTH:
            rows.append(" ")
        rows[-1] += f" {flag}"
    tail = listed[len(listed.rstrip()) :]
    return "\n".join(lines) + mark + "\n" + "\n".join(rows) + tail


def version(text: str, release: dict[str, Any]) -> str:
    """`-version`. A year's first release takes the next major version: 6.0 is of 2021."""
    qemu, package = release["qemu"], release["package"]
    number = f"{qemu['major']}.{qemu['minor']}.{qemu['micro']}"
    text = re.sub(r"(?<=version )[^\n]*", f"{number} ({package})" if package else number, text)
    return re.sub(r"(?<=2003-)\d+", str(2015 + qemu["major"]), text)


__all__ = ["DEVICES", "cpus", "descriptions", "devices", "machine_help", "version", "words",
           "words_in_line"]
