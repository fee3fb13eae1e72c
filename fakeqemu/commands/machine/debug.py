"""Debug queries: trace events, statistics, device tree; recorded or from the model.

Trace events can be switched and never happen; devices that are never there are missed in
QEMU's words.

See trace/qmp.c: qmp_trace_event_get_state() and qmp_trace_event_set_state();
stats/stats-qmp-cmds.c: qmp_query_stats_schemas(); hw/usb/bus.c: qmp_x_query_usb();
hw/mem/cxl_type3.c: qmp_cxl_inject_poison() and its neighbours; system/qdev-monitor.c:
qmp_device_sync_config(); hw/virtio/virtio-pci.c: virtio_pci_sync_config();
system/device_tree.c: qmp_dumpdtb().
"""

from __future__ import annotations

from typing import Any, NoReturn

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
#: bytes that CXL memory is poisoned by
_CXL_LINE = 64


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


def _is_cxl_memory(vm: Machine, path: str) -> bool | None:
    """Whether a CXL type 3 device is at `path`; None if nothing is."""
    obj, _ = vm.qom.find(path)
    return None if obj is None else vm.profile.is_a(obj.type, "cxl-type3")


def _inject_into(vm: Machine, name: str, path: str) -> None:
    found = _is_cxl_memory(vm, path)
    if found is None:
        raise QapiError("Unable to resolve path")
    if not found:
        raise QapiError("Path does not point to a CXL type 3 device")
    raise NotModelledError(name)


def _cxl_event(name: str) -> None:
    @command(name)
    def inject(vm: Machine, path: str, **_: Any) -> None:
        """Nobody takes the event out."""
        _inject_into(vm, name, path)


for _name in (
    "cxl-inject-uncorrectable-errors",
    "cxl-inject-correctable-error",
    "cxl-inject-general-media-event",
    "cxl-inject-dram-event",
    "cxl-inject-memory-module-event",
):
    _cxl_event(_name)


@command("cxl-inject-poison")
def cxl_inject_poison(vm: Machine, path: str, start: int, length: int) -> None:
    """Mark a stretch of a CXL memory device as poisoned."""
    if length % _CXL_LINE:
        raise QapiError("Poison injection must be in multiples of 64 bytes")
    if start % _CXL_LINE:
        raise QapiError("Poison start address must be 64 byte aligned")
    _inject_into(vm, "cxl-inject-poison", path)


def _change_capacity(vm: Machine, name: str, policy: str, kind: str, path: str) -> None:
    if policy != "prescriptive":
        raise QapiError(f"{kind} policy not supported")
    if not _is_cxl_memory(vm, path):
        raise QapiError("Unable to resolve CXL type 3 device")
    raise NotModelledError(name)


@command("cxl-add-dynamic-capacity")
def cxl_add_dynamic_capacity(vm: Machine, path: str, selection_policy: str, **_: Any) -> None:
    """Offer extents of a CXL memory device to the guest."""
    _change_capacity(vm, "cxl-add-dynamic-capacity", selection_policy, "Selection", path)


@command("cxl-release-dynamic-capacity")
def cxl_release_dynamic_capacity(
    vm: Machine, path: str, removal_policy: str, forced_removal: bool = False, **_: Any
) -> None:
    """Take extents of a CXL memory device back."""
    if forced_removal:
        raise QapiError("Forced removal not supported yet")
    _change_capacity(vm, "cxl-release-dynamic-capacity", removal_policy, "Removal", path)


@command("device-sync-config")
def device_sync_config(vm: Machine, id: str) -> None:
    """Only vhost-user devices read their configuration again, and those need their other end."""
    if vm.migration.running:
        raise QapiError("Config synchronization is not allowed during migration")
    path = id if id.startswith("/") else f"/machine/peripheral/{id}"
    obj = vm.qom.at(path)
    if obj is None:
        raise QapiError(texts.device_not_found(id))
    if not isinstance(obj, DeviceObject):
        raise QapiError(f"{id} is not a device")
    if vm.profile.is_a(obj.type, "virtio-pci"):
        backend = obj.child("virtio-backend")
        obj = obj if backend is None else backend
    if "vhost-user" in obj.type:
        raise NotModelledError("device-sync-config")
    raise QapiError(f"device-sync-config is not supported for '{obj.type}'")


@command("dumpdtb")
def dumpdtb(vm: Machine, filename: str) -> NoReturn:  # noqa: ARG001
    """Write the board's device tree."""
    from fakeqemu.boot.checks.board import dump_device_tree

    dump_device_tree(vm)


refused(
    {
        "xen-event-inject": "Xen event channel emulation not enabled",
        "replay-break": "setting the breakpoint is allowed only in play mode",
        "replay-delete-break": "replay breakpoints are allowed only in play mode",
        "replay-seek": "replay must be enabled to seek",
    }
)
