"""Commands that tell what this QEMU is: answered from the profile alone.

QAPI's modules introspect, control, qom, qdev and machine have them; what they share is that
no state of the machine changes their answer.

See monitor/qmp-cmds-control.c: qmp_query_commands(), qmp_query_qmp_schema() and
qmp_query_version(); monitor/qemu-config-qmp.c: qmp_query_command_line_options();
qom/qom-qmp-cmds.c: qmp_device_list_properties().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command, commands
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, NotModelledError, QapiError

Json = dict[str, Any]


@command("query-command-line-options")
def query_command_line_options(vm: Machine, option: str | None = None) -> list[Json]:
    """All option groups, or the one asked for."""
    groups = vm.profile.option_groups
    if option is None:
        return vm.profile.replies.once(lambda: groups, "query-command-line-options")
    found = [group for group in groups if group["option"] == option]
    if not found:
        raise QapiError(f"invalid option name: {option}")
    return found


@command("query-machines")
def query_machines(vm: Machine, compat_props: bool = False) -> list[Json]:
    """Every machine type."""

    def entries() -> list[Json]:
        if not compat_props:
            return [machine.entry for machine in vm.profile.machines]
        return [
            {
                **machine.entry,
                "compat-props": [
                    {"qom-type": driver, "property": name, "value": value}
                    for driver, name, value in machine.compat_props
                ],
            }
            for machine in vm.profile.machines
        ]

    return vm.profile.replies.once(entries, "query-machines", compat_props)


@command("qom-list-types")
def qom_list_types(
    vm: Machine, implements: str | None = None, abstract: bool = False
) -> list[Json]:
    """Types, all or those that are of one kind; none for an unknown kind."""
    vm.chardevs.load_modules()
    types = vm.profile.qom_types
    if implements is not None and implements not in types:
        return []

    def entries() -> list[Json]:
        names = types if implements is None else vm.profile.implementors(implements)
        return [
            {
                "name": name,
                **({"abstract": True} if types[name].abstract else {}),
                **({"parent": types[name].parent} if types[name].parent is not None else {}),
            }
            for name in names
            if abstract or not types[name].abstract
        ]

    return vm.profile.replies.once(entries, "qom-list-types", implements, abstract)


@command("qom-list-properties")
def qom_list_properties(vm: Machine, typename: str) -> list[Json]:
    """Properties of any type but an interface."""
    profile = vm.profile
    if typename not in profile.qom_types:
        raise DeviceNotFoundError(f"Class '{typename}' not found")
    if profile.root_of(typename) == "interface":
        raise QapiError(texts.parameter_expects("typename", "a QOM type"))
    try:
        return profile.qom_properties(typename)
    except KeyError:
        raise NotModelledError(f"qom-list-properties {typename}") from None


@command("device-list-properties")
def device_list_properties(vm: Machine, typename: str) -> list[Json]:
    """Properties that -device and device_add would take."""
    profile = vm.profile
    if typename not in profile.qom_types:
        raise DeviceNotFoundError(f"Device '{typename}' not found")
    if not profile.is_a(typename, "device") or profile.qom_types[typename].abstract:
        raise QapiError(texts.parameter_expects("typename", "a non-abstract device type"))
    try:
        return profile.device_properties(typename)
    except KeyError:
        raise NotModelledError(f"device-list-properties {typename}") from None


commands(
    {
        "query-version": lambda vm: vm.profile.version.reply(),
        "query-commands": lambda vm: vm.profile.replies.once(
            lambda: [{"name": name} for name in vm.profile.commands], "query-commands"
        ),
        "query-qmp-schema": lambda vm: vm.profile.schema_reply,
    }
)
