"""What the source alone shows: options whose text nobody looks at, arguments nobody names."""

from __future__ import annotations

import ast
import dis
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from fakeqemu.boot.cmdline.commandline import (
    HANDLERS,
    JUDGED,
    ToConfiguration,
    ToGroup,
    ToMachine,
    no_effect,
)
from fakeqemu.boot.cmdline.options import HELP_OPTIONS, VERSION_OPTION
from fakeqemu.commands.registry import COMMANDS, keyword_of
from fakeqemu.configuration import Configuration
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads

PACKAGE = Path(__file__).resolve().parents[2] / "fakeqemu"

#: option -> what of it the walk over the command line itself carries out
_BY_THE_WALK = frozenset({*HELP_OPTIONS, VERSION_OPTION})
#: option group -> attribute of the configuration that `_collect` fills from it
_GROUPS = {
    "accel": "accelerators", "memory": "memory", "numa": "numa", "rtc": "rtc", "icount": "icount",
    "action": "action", "sandbox": "sandbox", "add-fd": "add_fd", "chardev": "chardevs",
    "mon": "monitors", "device": "devices", "netdev": "netdevs", "nic": "nics", "net": "nets",
    "drive": "drives", "fw_cfg": "fw_cfg", "tpmdev": "tpmdevs",
    "fsdev": "fsdevs", "vnc": "vnc", "name": "name", "option-rom": "option_roms",
    "acpi": "acpi_tables",
}  # fmt: skip


@cache
def _trees() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def read_attributes() -> dict[str, frozenset[str]]:
    """Attribute of the configuration -> modules that read one of that name, the parser not."""
    names = {each.name for each in fields(Configuration)}
    found: dict[str, set[str]] = defaultdict(set)
    for module, tree in _trees().items():
        parser = module.startswith(("boot/options", "boot/commandline", "boot/configuration"))
        if parser or module.startswith("boot/configfile"):
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Load)
                and node.attr in names
                and _is_configuration(node.value)
            ):
                found[node.attr].add(module)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                attribute = node.args[1]
                if isinstance(attribute, ast.Constant) and attribute.value in names:
                    found[str(attribute.value)].add(module)
    return {name: frozenset(modules) for name, modules in found.items()}


def _is_configuration(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name == "configuration"


def option_attributes(name: str) -> frozenset[str]:
    """The attributes of the configuration into which an option's handler puts what it says."""
    handler = HANDLERS.get(name)
    if handler is None:
        # refused as not modelled
        return frozenset()
    if isinstance(handler, ToConfiguration):
        return frozenset({handler.attribute})
    if isinstance(handler, ToMachine):
        return frozenset({"machine_options"})
    if isinstance(handler, ToGroup):
        return frozenset({_GROUPS[handler.group]} if handler.group in _GROUPS else ())
    return frozenset(_touched(handler))


def _touched(function: Callable[..., Any]) -> Iterator[str]:
    source = inspect.getsource(function)
    tree = ast.parse(source)
    module = inspect.getmodule(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_configuration(node.value):
            yield node.attr
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in ("opts", "group"):
            for group in _group_names(node, function):
                if group in _GROUPS:
                    yield _GROUPS[group]
        elif isinstance(called, ast.Name) and called.id != function.__name__:
            inner = getattr(module, called.id, None)
            if inspect.isfunction(inner) and inner.__module__ == function.__module__:
                yield from _touched(inner)


def _group_names(call: ast.Call, function: Callable[..., Any]) -> Iterator[str]:
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant):
        yield str(first.value)
    elif isinstance(first, ast.Attribute) and first.attr == "option":
        yield from (name for name, handler in HANDLERS.items() if handler is function)


def refused_options() -> frozenset[str]:
    """The options that are read, judged, and then refused as not modelled."""
    found: set[str] = set()
    for tree in _trees().values():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "NotModelledError":
                continue
            what = call.args[0]
            if isinstance(what, ast.Constant) and isinstance(what.value, str):
                found.update(re.findall(r"\A-([A-Za-z][\w-]*)\Z", what.value))
    return frozenset(found)


def unread_options(profile: Profile) -> dict[str, str]:
    """The options of a version that change nothing later, each with what is done with it."""
    readers = read_attributes()
    found = {}
    for name in sorted(option.name for option in profile.command_line_options):
        if name in JUDGED:
            found[name] = reads.CHECKED
        elif name not in _BY_THE_WALK and not _is_read(name, readers):
            found[name] = reads.NONE
    return found


def _is_read(name: str, readers: dict[str, frozenset[str]]) -> bool:
    if HANDLERS.get(name) is no_effect:
        return False
    attributes = option_attributes(name)
    # none: refused, or carried out at once: machine options join by way of `merge`
    return not attributes or any(attribute in readers for attribute in attributes)


def unnamed_arguments(profile: Profile) -> list[str]:
    """Top-level arguments of modelled commands that the function called for them never loads."""
    found = []
    for name, info in profile.schema.commands.items():
        command = COMMANDS.get(name)
        if command is None or command.raw:
            continue
        function = inspect.unwrap(command.function)
        code = function.__code__
        if code.co_flags & inspect.CO_VARKEYWORDS:
            continue
        loaded = {
            each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD_")
        } | set(code.co_cellvars)
        found += [
            f"{name} {member.name}"
            for member in info.arg_type.members
            if keyword_of(member.name) not in loaded
        ]
    return found
