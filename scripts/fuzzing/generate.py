"""Random commands after a schema: valid, nearly valid and wrong ones, the same for one seed.

`CommandGenerator` reads the schema as `query-qmp-schema` returns it; text members get words that
may fit (`pools`). How wrong a command is, is drawn for each anew.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from fuzzing.pools import INTEGERS, MEMBERS, POOL, WRONG

T = TypeVar("T")

#: commands that end a machine, which is no finding
ENDING = frozenset({"quit", "x-exit-preconfig"})
#: members for how long everybody waits, a real one's other clients too, and what they may be
_WAITS = {"open-timeout": [0, 1]}
#: shares of commands that are valid, nearly valid and wrong, with how likely a fault is in each
_MOODS = ((0.4, 0.0), (0.8, 0.03), (1.0, 0.15))
_DEEP, _DEEPEST = 4, 8
_LEAVES = ("null-co", "raw", "file", "inet", "unix", "null")
#: properties of devices, which no schema names, with values that may fit
_DEVICE_VALUES: dict[str, list[Any]] = {
    "bus": ["rp0", "pcie.0", "pci.0", "scsi0.0", "nope", "", "ide.0", "usb.0", "rp0/x", "scsi0"],
    "drive": ["n0", "q0", "nope", "new0", "", "drv0"],
    "netdev": ["net0", "nope"],
    "chardev": ["ch0", "nope", "ch1"],
    "addr": ["1", "0x1f.7", "zz", 3, -1, "2.9", 300],
    "mac": ["52:54:00:12:34:56", "nope", "01:00:00:00:00:00"],
    "memdev": ["mem0", "nope"],
    "multifunction": [True, "on", "maybe", 1],
    "bootindex": [0, 1, "x", -1, "1"],
    "serial": ["s", "x" * 99],
    "iothread": ["io0", "nope"],
    "num-queues": [0, 1, 9999, "x"],
    "port": [0, 1, 300],
    "chassis": [0, 1, 300],
    "disable-legacy": ["on", "auto", "x", True],
    "physical_block_size": [0, 512, 513, 1 << 22],
    "queue-size": [3, 128, 1 << 20],
    "no-such-property": [1, "x"],
}


class CommandGenerator:
    """Commands with arguments. `drivers`: types that `device_add` may name."""

    def __init__(
        self, schema: Iterable[dict[str, Any]], rng: random.Random, drivers: Sequence[str] = ()
    ) -> None:
        self._types = {entry["name"]: entry for entry in schema}
        self._rng = rng
        self._drivers = list(drivers) or ["virtio-rng-pci"]
        self._wrong = 0.0
        self.commands = sorted(
            name
            for name, entry in self._types.items()
            if entry["meta-type"] == "command" and name not in ENDING
        )

    def command(self, name: str | None = None) -> tuple[str, Any]:
        """A command and its arguments, which need not be an object."""
        name = name or self._pick(self.commands)
        mood = self._rng.random()
        self._wrong = next(wrong for share, wrong in _MOODS if mood < share)
        if name == "device_add" and self._rng.random() < 0.9:
            return name, self._device()
        arguments = self._value(self._types[name]["arg-type"], "", 0)
        if not isinstance(arguments, dict) and self._rng.random() < 0.5:
            arguments = {}
        return name, arguments

    def _pick(self, values: Sequence[T]) -> T:
        return values[self._rng.randrange(len(values))]

    def _fails(self) -> bool:
        return self._rng.random() < self._wrong

    def _device(self) -> dict[str, Any]:
        device: dict[str, Any] = {"driver": self._pick(self._drivers)}
        if self._rng.random() < 0.5:
            device["id"] = self._pick(POOL["id"])
        for name, values in _DEVICE_VALUES.items():
            if self._rng.random() < 0.09:
                device[name] = self._pick(values)
        return device

    def _text(self, member: str) -> str:
        kind = MEMBERS.get(member, "str")
        if self._rng.random() < 0.12:
            kind = self._pick(sorted(POOL))
        return self._pick(POOL[kind])

    def _value(self, type_name: str, member: str, depth: int) -> Any:
        if depth and self._fails():
            return self._pick(WRONG)
        entry = self._types[type_name]
        meta = entry["meta-type"]
        if meta == "builtin":
            return self._builtin(entry["json-type"], member)
        if meta == "enum":
            values = _values_of(entry)
            return self._pick(["nope", "", values[0].upper()]) if self._fails() else (
                self._pick(values)
            )
        if meta == "array":
            count = self._pick([0, 1, 1, 1, 2, 3]) if depth < _DEEPEST - 1 else 0
            element = entry["element-type"]
            return [self._value(element, member, depth + 1) for _ in range(count)]
        if meta == "alternate":
            return self._value(self._pick(entry["members"])["type"], member, depth + 1)
        return self._object(entry, depth)

    def _builtin(self, kind: str, member: str) -> Any:
        if kind == "string":
            return self._text(member)
        if kind == "int" and member in _WAITS:
            return self._pick(_WAITS[member])
        if kind == "int":
            known = self._rng.random() < 0.7
            return self._pick(INTEGERS) if known else self._rng.randrange(1 << 16)
        if kind == "number":
            return self._pick([0.0, 1.5, -1, 1e10, 3, -2.5])
        if kind == "boolean":
            return self._rng.random() < 0.5
        if kind == "null":
            return None
        return self._pick([*WRONG, *INTEGERS, *POOL[self._pick(sorted(POOL))]])

    def _object(self, entry: dict[str, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        often = self._pick([0.0, 0.15, 0.4, 0.9]) if depth < 3 else 0.1 if depth < 6 else 0.0
        tag = entry.get("tag")
        for member in entry["members"]:
            name = member["name"]
            if name == tag:
                found[name] = "nope" if self._fails() else self._branch(member["type"], depth)
            elif "default" in member:
                if depth <= _DEEPEST and self._rng.random() < often:
                    found[name] = self._value(member["type"], name, depth + 1)
            elif self._rng.random() >= self._wrong / 2:
                found[name] = self._value(member["type"], name, depth + 1)
        for variant in entry.get("variants", ()):
            if tag is not None and variant["case"] == found.get(tag):
                rest = self._object(self._types[variant["type"]], depth)
                found = {**rest, **found}
        if self._fails():
            found[self._pick(["foo", "", "Id", "x" * 50])] = self._pick(WRONG)
        return found

    def _branch(self, type_name: str, depth: int) -> str:
        values = _values_of(self._types[type_name])
        if depth >= _DEEP:
            values = [each for each in _LEAVES if each in values] or values
        return self._pick(values)


def _values_of(entry: dict[str, Any]) -> list[str]:
    if "members" in entry:
        return [each["name"] for each in entry["members"]]
    return list(entry["values"])


def is_harmless(name: str, arguments: Any) -> bool:
    """False for what runs programs, ends the machine or reaches beyond its directory."""
    text = json.dumps(arguments)
    if name in ENDING or "exec" in text:
        return False
    if name == "set-action" and isinstance(arguments, dict):
        # a later reset, shutdown or panic would end it
        return arguments.get("shutdown") != "poweroff"
    return name != "human-monitor-command"
