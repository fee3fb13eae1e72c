"""Debug queries: trace events, statistics, device tree; recorded or from the model.

Trace events can be switched and never happen; devices that are never there are missed in
QEMU's words.

See trace/qmp.c: qmp_trace_event_get_state() and qmp_trace_event_set_state();
stats/stats-qmp-cmds.c: qmp_query_stats_schemas(); hw/usb/bus.c: qmp_x_query_usb();
system/device_tree.c: qmp_dumpdtb().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.commands.registry import command, refused
from fakeqemu.model import trace as traceevents
from fakeqemu.model.machine import Machine
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.schema_facts import element_members

Json = dict[str, Any]


@command("trace-event-get-state")
def trace_event_get_state(vm: Machine, name: str, vcpu: int | None = None) -> list[Json]:
    """TraceEventInfo list."""
    with_vcpu = "vcpu" in element_members(vm.profile.schema, "trace-event-get-state")
    found = vm.trace_events.get(name, vcpu)
    return [traceevents.info(entry, with_vcpu=with_vcpu) for entry in found]


@command("trace-event-set-state")
def trace_event_set_state(
    vm: Machine,
    name: str,
    enable: bool,
    ignore_unavailable: bool = False,  # noqa: ARG001 - all of them are available
    vcpu: int | None = None,
) -> None:
    """Switch trace events."""
    vm.trace_events.set(name, enable, vcpu)


@command("query-stats-schemas")
def query_stats_schemas(vm: Machine, provider: str | None = None) -> list[Json]:
    """StatsSchema list."""
    schemas: list[Json] = recorded(vm, "query-stats-schemas")
    return [schema for schema in schemas if provider in (None, schema["provider"])]


@command("x-query-usb")
def query_usb(vm: Machine) -> Json:
    """The devices on USB, as the human monitor shows them."""
    text = run_hmp(vm, HmpMonitor(), "info usb")
    if text.startswith("Error: "):
        raise QapiError(text.removeprefix("Error: ").rstrip("\n"))
    return {"human-readable-text": text}


# -- what is never there -------------------------------------------------------------------------


def _rocker(name: str) -> None:
    @command(name)
    def query(vm: Machine, name: str, **_: Any) -> None:  # noqa: ARG001
        """There is no such switch."""
        raise QapiError(f"rocker {name} not found")


for _name in ("query-rocker-ports", "query-rocker-of-dpa-flows", "query-rocker-of-dpa-groups"):
    _rocker(_name)


def _cxl(name: str, *, plain: bool) -> None:
    @command(name)
    def inject(vm: Machine, path: str, **_: Any) -> None:
        """Nobody takes the event out."""
        obj = vm.qom.at(path) if path.startswith("/") else None
        found = obj is not None and vm.profile.is_a(obj.type, "cxl-type3")
        if found:
            raise NotModelledError(name)
        if not plain:
            raise QapiError("Unable to resolve CXL type 3 device")
        if obj is None:
            raise QapiError("Unable to resolve path")
        raise QapiError("Path does not point to a CXL type 3 device")


for _name in (
    "cxl-inject-poison",
    "cxl-inject-uncorrectable-errors",
    "cxl-inject-correctable-error",
    "cxl-inject-general-media-event",
    "cxl-inject-dram-event",
    "cxl-inject-memory-module-event",
):
    _cxl(_name, plain=True)
for _name in ("cxl-add-dynamic-capacity", "cxl-release-dynamic-capacity"):
    _cxl(_name, plain=False)


@command("device-sync-config")
def device_sync_config(vm: Machine, id: str) -> None:
    """Only vhost-user devices read their configuration again, and those need their other end."""
    path = id if id.startswith("/") else f"/machine/peripheral/{id}"
    obj = vm.qom.at(path)
    if obj is None:
        raise QapiError(texts.device_not_found(id))
    if not isinstance(obj, DeviceObject):
        raise QapiError(f"{id} is not a device")
    if "vhost-user" in obj.type:
        raise NotModelledError("device-sync-config")
    raise QapiError(f"device-sync-config is not supported for '{obj.type}'")

refused(
    {
        "dumpdtb": lambda traits: traits.no_device_tree,
        "xen-event-inject": "Xen event channel emulation not enabled",
        "replay-break": "setting the breakpoint is allowed only in play mode",
        "replay-delete-break": "replay breakpoints are allowed only in play mode",
        "replay-seek": "replay must be enabled to seek",
    }
)
