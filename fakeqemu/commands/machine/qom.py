"""Commands of QAPI's qom module that walk the object tree and change it.

See qom/qom-qmp-cmds.c: qmp_qom_list(), qmp_qom_get() and qmp_object_add(); iothread.c:
qmp_query_iothreads().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, NotModelledError, QapiError
from fakeqemu.qapi.schema_facts import element_members

Json = dict[str, Any]


@command("qom-list")
def qom_list(vm: Machine, path: str) -> list[Json]:
    """ObjectPropertyInfo list."""
    found, ambiguous = vm.qom.find(path)
    if found is None:
        if ambiguous:
            raise QapiError(f"Path '{path}' is ambiguous")
        raise DeviceNotFoundError(texts.device_not_found(path))
    return list(found.listing())


@command("qom-get")
def qom_get(vm: Machine, path: str, property: str) -> Any:
    """The value of one property."""
    return vm.qom.resolve(path).get(property)


@command("qom-set")
def qom_set(vm: Machine, path: str, property: str, value: Any) -> None:
    """Change one property."""
    vm.qom.resolve(path).set(property, value, vm.profile.schema)


@command("qom-list-get")
def qom_list_get(vm: Machine, paths: list[str]) -> list[Json]:
    """Every property of several objects, with its value where it can be read."""
    found = []
    for path in paths:
        obj, ambiguous = vm.qom.find(path)
        if obj is None:
            if ambiguous:
                raise QapiError(f"Path '{path}' is ambiguous")
            raise DeviceNotFoundError(texts.device_not_found(path))
        properties = []
        for entry in obj.listing():
            try:
                properties.append({**entry, "value": obj.get(entry["name"])})
            except NotModelledError:
                raise
            except QapiError:
                properties.append(dict(entry))
        found.append({"properties": properties})
    return found


@command("query-iothreads")
def query_iothreads(vm: Machine) -> list[Json]:
    """IOThreadInfo list."""
    returned = element_members(vm.profile.schema, "query-iothreads")
    members = [name for name in returned if name not in ("id", "thread-id")]
    found = []
    there = {obj.name: obj for obj in vm.objects.of_type("iothread")}
    order = vm.qom.container("/objects").walked()
    for number, obj in enumerate(there[name] for name in order if name in there):
        values = {name: obj.get(name) for name in members if name in obj.shapes}
        thread = vm.host.thread_id(f"IO {obj.name}", 1000 + number)
        found.append({"id": obj.name, "thread-id": thread, **values})
    return found


actions({"object-del": lambda vm, id, monitor=None: vm.objects.delete(id, monitor)}, monitor=True)

actions(
    {"object-add": lambda vm, arguments, monitor=None: vm.objects.add(arguments, monitor)},
    monitor=True,
    raw=True,
)
