"""Trace events: which there are is recorded, which are on is kept; none ever happens."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_EVERY = -1


class TraceEvents:
    """The trace events of one machine."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: (name, CPU it is on for or _EVERY)
        self._on: set[tuple[str, int]] = set()
        for entry in vm.configuration.trace:
            pattern = entry.values.get("enable")
            self._on |= {(name, _EVERY) for name in self._matching(str(pattern or ""))}

    @cached_property
    def _recorded(self) -> dict[str, list[str]]:
        try:
            part: dict[str, list[str]] = self._vm.profile.part("trace-events")
        except FileNotFoundError:
            raise NotModelledError("trace events") from None
        return part

    def get(self, pattern: str, vcpu: int | None = None) -> list[tuple[str, bool, bool]]:
        """(name, whether it is of single CPUs, whether it is on). Raises QapiError."""
        return [
            (name, name in self._recorded["vcpu"], self._is_on(name, vcpu))
            for name in self._find(pattern, vcpu)
        ]

    def set(self, pattern: str, enable: bool, vcpu: int | None = None) -> None:
        """Switch events. Raises QapiError."""
        changed = {(n, _EVERY if vcpu is None else vcpu) for n in self._find(pattern, vcpu)}
        if enable:
            self._on |= changed
        else:
            names = {name for name, _ in changed}
            self._on = {
                entry for entry in self._on
                if entry[0] not in names or (vcpu is not None and entry[1] != vcpu)
            }

    def _is_on(self, name: str, vcpu: int | None) -> bool:
        if vcpu is None:
            return any(each == name for each, _ in self._on)
        return bool(self._on & {(name, vcpu), (name, _EVERY)})

    def _find(self, pattern: str, vcpu: int | None) -> list[str]:
        if vcpu is not None and self._vm.cpus.get(vcpu) is None:
            raise QapiError(f"invalid vCPU index {vcpu}")
        found = self._matching(pattern)
        if "*" not in pattern:
            if not found:
                raise QapiError(f'unknown event "{pattern}"')
            if vcpu is not None and pattern not in self._recorded["vcpu"]:
                raise QapiError(f'event "{pattern}" is not vCPU-specific')
        return found if vcpu is None else [n for n in found if n in self._recorded["vcpu"]]

    def _matching(self, pattern: str) -> list[str]:
        if "*" not in pattern:
            return [name for name in self._recorded["names"] if name == pattern]
        parts = {"*": ".*", "?": "."}
        form = re.compile("".join(parts.get(char, re.escape(char)) for char in pattern))
        return [name for name in self._recorded["names"] if form.fullmatch(name)]


def info(entry: tuple[str, bool, bool], *, with_vcpu: bool) -> dict[str, Any]:
    """TraceEventInfo, with the member that versions had while events could be of single CPUs."""
    name, of_vcpu, on = entry
    shown: dict[str, Any] = {"name": name, "state": "enabled" if on else "disabled"}
    return {**shown, "vcpu": of_vcpu} if with_vcpu else shown
