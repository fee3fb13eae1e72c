"""Human monitor commands that run, stop and end the machine, and help.

See monitor/hmp-cmds.c: hmp_help(), hmp_quit(), hmp_cont() and hmp_info_help();
hw/core/machine-hmp-cmds.c: hmp_system_reset() and hmp_nmi().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.commands.hmp.arguments import split_words
from fakeqemu.commands.hmp.definitions import HmpDefinition, HmpTable
from fakeqemu.commands.hmp.expression import character
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fakeqemu.model.machine import Machine

#: words that help looks at
_WORDS = 16


@hmp("help")
def help_(vm: Machine, name: str | None = None) -> str:
    """All commands, or one."""
    table = HmpTable.of(vm.profile)
    if name == "log":
        return table.log_items
    words = split_words(name) if name else []
    if words is None or len(words) > _WORDS:
        return ""
    return _help(vm, table.commands, words, 0)


def _help(vm: Machine, entries: Sequence[HmpDefinition], words: list[str], depth: int) -> str:
    prefix = "".join(f"{word} " for word in words[:depth])
    shown = [entry for entry in entries if vm.process.phases.ready or entry.preconfig]
    if depth >= len(words):
        return "".join(prefix + entry.help for entry in shown)
    entry = HmpTable.find(shown, words[depth])
    if entry is None:
        return f"unknown command: '{' '.join(words[: depth + 1])}'\n"
    if entry.table is not None:
        return _help(vm, entry.table, words, depth + 1)
    return prefix + entry.help


@hmp("info")
def info(vm: Machine, item: str | None = None) -> str:  # noqa: ARG001
    """Without a word: what there is to ask."""
    return help_(vm, "info")


@hmp("watchdog_action")
def watchdog_action(vm: Machine, action: str) -> None:
    """Say what happens when the watchdog runs out."""
    if action not in vm.profile.schema.enum_values("WatchdogAction"):
        raise QapiError(texts.invalid_value(action))
    vm.lifecycle.set_action(watchdog=action)


@hmp("cpu", monitor=True)
def cpu(vm: Machine, index: int, monitor: HmpMonitor) -> str:
    """Choose the CPU that later lines are about."""
    if index not in vm.cpus:
        return "invalid CPU index\n"
    monitor.cpu_index = index
    return ""


@hmp("print")
def print_(vm: Machine, val: int, count: int, format: str, size: int) -> str:  # noqa: ARG001
    """The value of an expression."""
    if format == "c":
        return f"{character(val)}\n"
    unsigned = val & 0xFFFFFFFFFFFFFFFF
    if not unsigned:
        return "0\n"  # C's `#` adds nothing to it
    return {"o": f"0{unsigned:o}", "x": f"0x{unsigned:x}", "u": f"{unsigned}"}.get(
        format, f"{val}"
    ) + "\n"


@hmp("clear")
def clear(vm: Machine) -> str:  # noqa: ARG001
    """Wipe the terminal."""
    return "\x1b[H\x1b[2J\x1b[3J"
