"""Trace events: which there are is recorded, which are on is kept; none ever happens.

See trace/control.c: trace_event_name(), trace_event_iter_next() and trace_enable_events();
trace/qmp.c: get_cpu() (7.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.profile import Profile

_EVERY = -1
#: a CPU's number in a request has as many bits as an `unsigned int`; the rest is cut off
_NUMBER = 0xFFFFFFFF


class TraceEvents:
    """The trace events of one machine."""

    def __init__(self, profile: Profile, cpus: Cpus, patterns: Iterable[str]) -> None:
        """`patterns`: of the events that are on from the start, of others with `-` before."""
        self._profile = profile
        self._cpus = cpus
        #: name -> CPUs it is on for, or _EVERY
        self._on: dict[str, set[int]] = {}
        for text in patterns:
            for name in matching(profile, text.removeprefix("-")):
                self._switch(name, _EVERY, not text.startswith("-"))

    def get(self, pattern: str, vcpu: int | None = None) -> list[tuple[str, bool, bool]]:
        """(name, whether it is of single CPUs, whether it is on). Raises QapiError."""
        vcpu = None if vcpu is None else vcpu & _NUMBER
        return [
            (name, name in recorded(self._profile)["vcpu"], self._is_on(name, vcpu))
            for name in self._find(pattern, vcpu)
        ]

    def set(self, pattern: str, enable: bool, vcpu: int | None = None) -> None:
        """Switch events. Raises QapiError."""
        vcpu = None if vcpu is None else vcpu & _NUMBER
        for name in self._find(pattern, vcpu):
            self._switch(name, _EVERY if vcpu is None else vcpu, enable)

    def _switch(self, name: str, cpu: int, enable: bool) -> None:
        if enable:
            self._on.setdefault(name, set()).add(cpu)
        elif cpu == _EVERY:
            self._on.pop(name, None)
        elif name in self._on:
            self._on[name].discard(cpu)

    def _is_on(self, name: str, vcpu: int | None) -> bool:
        on = self._on.get(name, set())
        return bool(on) if vcpu is None else not on.isdisjoint((vcpu, _EVERY))

    def _find(self, pattern: str, vcpu: int | None) -> list[str]:
        if vcpu is not None and self._cpus.get(vcpu) is None:
            raise QapiError(f"invalid vCPU index {vcpu}")
        found = matching(self._profile, pattern)
        if "*" not in pattern:
            if not found:
                raise QapiError(f'unknown event "{pattern}"')
            if vcpu is not None and pattern not in recorded(self._profile)["vcpu"]:
                raise QapiError(f'event "{pattern}" is not vCPU-specific')
        if vcpu is None:
            return found
        of_cpus = recorded(self._profile)["vcpu"]
        return [name for name in found if name in of_cpus]


def matching(profile: Profile, pattern: str) -> list[str]:
    """The events of that name, or of the names that `*` and `?` stand for."""
    names = recorded(profile)["names"]
    if "*" not in pattern:
        return [name for name in names if name == pattern]
    parts = {"*": ".*", "?": "."}
    form = re.compile("".join(parts.get(char, re.escape(char)) for char in pattern))
    return [name for name in names if form.fullmatch(name)]


def recorded(profile: Profile) -> dict[str, list[str]]:
    """ "names" and "vcpu", those of single CPUs, the last first. Raises NotModelledError."""
    part: dict[str, list[str]] = profile.part("trace-events")
    return part


def info(entry: tuple[str, bool, bool], *, with_vcpu: bool) -> dict[str, Any]:
    """TraceEventInfo, with the member that versions had while events could be of single CPUs."""
    name, of_vcpu, on = entry
    shown: dict[str, Any] = {"name": name, "state": "enabled" if on else "disabled"}
    return {**shown, "vcpu": of_vcpu} if with_vcpu else shown
