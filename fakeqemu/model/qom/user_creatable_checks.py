"""What kinds of user-creatable objects check: when a property is set, and when all are.

One table for each moment, by QOM type; the entry of the nearest ancestor counts.

See qom/object_interfaces.c: user_creatable_complete().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qom import hostmem as memorybackends
from fakeqemu.model.qom.links import resolve_link
from fakeqemu.model.qom.property_types import convert
from fakeqemu.model.qom.throttle_limits import (
    check_limits,
    expand_limits,
    from_properties,
    to_properties,
)
from fakeqemu.model.qom.user_creatable import by_type
from fakeqemu.qapi import qdict, reads
from fakeqemu.qapi.errors import DeviceNotFoundError, NotModelledError, QapiError
from fakeqemu.qapi.schema import ArrayType
from fakeqemu.qapi.visitor import JsonScalars, Path, Visitor

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.qom.user_object import UserObject
    from fakeqemu.qapi.schema import Schema

_INT64_MAX = (1 << 63) - 1


# -- setting ---------------------------------------------------------------------------------


def set_all(objects: Objects, obj: UserObject, given: Mapping[str, Any]) -> None:
    """Set the options an object is made with, in QEMU's order. Raises QapiError."""
    process = objects.process
    check = by_type(process.profile, obj.type, _SET)
    for name, value in qdict.items(given):
        if name in _NOT_WRITABLE:
            raise QapiError(f"Property '{obj.type}.{name}' is not writable")
        shape = obj.shapes.get(name, "")
        if shape.startswith("link<"):
            resolve_link(objects.qom, process.profile, name, value, shape[5:-1])
        if (obj.type, name) == ("qtest", "chardev") and value not in objects.chardevs:
            raise QapiError(f"Cannot find character device '{value}'")
        kept = check(process, obj, name, value) if check is not None else False
        if name in obj.shapes and not kept:
            obj.values[name] = value
        if reads.log is not None and name in obj.shapes:
            obj.values = reads.log.watch(obj.values, name)


def set_property(process: Process, obj: UserObject, name: str, value: Any, schema: Schema) -> None:
    """qom-set of a finished object. Raises QapiError."""
    change = by_type(process.profile, obj.type, _CHANGE)
    if change is None:
        raise NotModelledError(f"qom-set {obj.type}.{name}")
    if name == "size" and change is _CHANGE["memory-backend"]:
        # refused before the value is read
        change(process, obj, name, value)
    kind = _array_type(schema, obj.type, name)
    if kind is None:
        value = convert(schema, obj.shapes[name], value, name)
    else:
        value = Visitor(JsonScalars()).visit(kind, value, Path(None, name))
    change(process, obj, name, value)


def _array_type(schema: Schema, type: str, name: str) -> ArrayType | None:
    """The type of a list, for which QOM names that of its elements."""
    options = schema.commands["object-add"].arg_type.variant(type)
    members = options.members if options is not None else ()
    found = next((member.type for member in members if member.name == name), None)
    return found if isinstance(found, ArrayType) else None


#: options that are in the schema for clients that read them
_NOT_WRITABLE = ("opened", "loaded")

_RANGED = frozenset(
    {"poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch"}
    | {"thread-pool-min", "thread-pool-max"}
)
#: where it is less than any: a weight is a shift of 64 bits
_LOOP_MOST = {"poll-weight": 63}


def _set_loop(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    most = _LOOP_MOST.get(name, _INT64_MAX)
    if name in _RANGED and not 0 <= value <= most:
        raise QapiError(f"{name} value must be in range [0, {most}]")


def _check_pool(obj: UserObject) -> None:
    low, high = obj.values.get("thread-pool-min", 0), obj.values.get("thread-pool-max", 64)
    if not low <= high or not 1 <= high < 1 << 31:
        raise QapiError("bad thread-pool-min/thread-pool-max values")


def _change_loop(process: Process, obj: UserObject, name: str, value: Any) -> None:
    _set_loop(process, obj, name, value)
    old = obj.values.get(name)
    obj.values[name] = value
    try:
        _check_pool(obj)
    except QapiError:
        obj.values[name] = old
        raise


def _set_filter(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    if name == "status" and value not in ("on", "off"):
        raise QapiError("Invalid value for netfilter status, should be 'on' or 'off'")
    if name == "insert" and value not in ("before", "behind"):
        raise QapiError(
            "Invalid value for netfilter insert, should be 'before' or 'behind'"
        )
    if name == "interval" and not value:
        raise QapiError(f"Property '{obj.type}.interval' requires a positive value")


def _change_filter(process: Process, obj: UserObject, name: str, value: Any) -> None:
    _set_filter(process, obj, name, value)
    obj.values[name] = value


_LONGEST_BURST = (1 << 32) - 1


def _set_throttle(process: Process, obj: UserObject, name: str, value: Any) -> bool:  # noqa: ARG001
    """Keeps the limits in both notations itself."""
    if name == "limits":
        new = expand_limits(value, obj.values["limits"])
        check_limits(new)
        _store_limits(obj, new)
    else:
        if value < 0:
            raise QapiError("Property values cannot be negative")
        if name.endswith("-length") and value > _LONGEST_BURST:
            # the missing space is QEMU's
            raise QapiError(f"{name} value must be in therange [0, {_LONGEST_BURST}]")
        obj.values[name] = value
        obj.values["limits"] = from_properties(obj.values)
    return True


def _store_limits(obj: UserObject, limits: dict[str, int]) -> None:
    obj.values["limits"] = limits
    obj.values.update({k: v for k, v in to_properties(limits).items() if k in obj.shapes})


def _change_throttle(process: Process, obj: UserObject, name: str, value: Any) -> None:
    if name != "limits":
        raise QapiError("Property cannot be set after initialization")
    _set_throttle(process, obj, name, value)


def _change_never(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    if name != "opened":
        raise QapiError(f"Property '{name}' can no longer be set")
    raise QapiError(f"Property '{obj.type}.{name}' is not writable")


def _change_freely(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    obj.values[name] = value


def _change_monitor(process: Process, obj: UserObject, name: str, value: Any) -> None:
    """The device and its editing are looked at once; `close-action` when the client goes."""
    if name == "pretty" and value != obj.values[name]:
        raise NotModelledError(f"qom-set {obj.type}.{name}")
    _change_freely(process, obj, name, value)


#: a check that returns True has kept the value itself
def _set_thread_context(
    process: Process, obj: UserObject, name: str, value: Any
) -> None:
    """See util/thread-context.c: thread_context_set_cpu_affinity()."""
    noun = {"cpu-affinity": "CPU", "node-affinity": "Node"}.get(name)
    if noun is None:
        return
    if not value:
        raise QapiError(f"{noun} list is empty")
    if {"cpu-affinity", "node-affinity"} <= obj.options.keys():
        raise QapiError("Mixing CPU and node affinity not supported")
    if name == "node-affinity" and not any(process.host.processors(node) for node in value):
        raise QapiError("The nodes select no CPUs")


def _set_crypto(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    if name == "queues" and not value:
        raise QapiError(f"Property '{obj.type}.queues' doesn't take value '0'")


_SET: dict[str, Callable[[Any, Any, str, Any], bool | None]] = {
    "memory-backend": memorybackends.set_property,
    "event-loop-base": _set_loop,
    "iothread": _set_loop,
    "netfilter": _set_filter,
    "throttle-group": _set_throttle,
    "thread-context": _set_thread_context,
    "cryptodev-backend": _set_crypto,
}
_CHANGE: dict[str, Callable[[Any, Any, str, Any], None]] = {
    "memory-backend": memorybackends.change,
    "event-loop-base": _change_loop,
    "iothread": _change_loop,
    "netfilter": _change_filter,
    "throttle-group": _change_throttle,
    "rng-backend": _change_never,
    "authz-simple": _change_freely,
    "authz-list": _change_freely,
    "secret": _change_freely,
    "monitor-qmp": _change_monitor,
    "monitor-hmp": _change_monitor,
}


# -- completing ------------------------------------------------------------------------------


def complete(objects: Objects, obj: UserObject) -> None:
    """The checks once everything is set and the object is in the tree. Raises QapiError."""
    profile = objects.process.profile
    theirs = by_type(profile, obj.type, objects.completers)
    if theirs is not None:
        theirs(obj)
    check = by_type(profile, obj.type, _COMPLETE)
    if check is not None:
        check(objects, obj)
    elif theirs is None and objects.about(obj.type)["tree"] is None:
        facts = objects.about(obj.type)
        if facts["error"] and not obj.options:
            raise QapiError(facts["error"])
        raise NotModelledError(f"object {obj.type}")


def _complete_loop(objects: Objects, obj: UserObject) -> None:
    _check_pool(obj)
    if obj.type == "main-loop" and len(objects.of_type("main-loop")) > 1:
        raise QapiError("only one main-loop instance allowed")


def _complete_throttle(objects: Objects, obj: UserObject) -> None:  # noqa: ARG001
    check_limits(obj.values["limits"])


def _complete_secret(objects: Objects, obj: UserObject) -> None:
    # most machines have none
    from fakeqemu.model.qom import secrets

    secrets.complete(objects, obj)


def _complete_rng(objects: Objects, obj: UserObject) -> None:
    if obj.type == "rng-random":
        path = obj.options.get("filename", obj.values.get("filename", ""))
        trouble = objects.process.host.file_error(path)
        if trouble is not None:
            raise QapiError(f"Could not open '{path}': {trouble}")
    if obj.type == "rng-egd" and obj.options["chardev"] not in objects.chardevs:
        raise DeviceNotFoundError(f"Device '{obj.options['chardev']}' not found")


def _complete_tls(objects: Objects, obj: UserObject) -> None:
    directory = obj.options.get("dir")
    if obj.type == "tls-cipher-suites" and not obj.options.get("priority"):
        raise QapiError("'priority' property is not set")
    if obj.type == "tls-cipher-suites":
        return
    wanted = {"tls-creds-psk": "keys.psk", "tls-creds-x509": "ca-cert.pem"}.get(obj.type)
    if directory is None:
        if wanted is not None:
            raise QapiError("Missing 'dir' property value")
        return
    # parameters of its own are a server's, and it may be without them
    may_lack = obj.type != "tls-creds-x509" and obj.values.get("endpoint") == "server"
    missing = os.strerror(errno.ENOENT)
    for name in ["dh-params.pem"] * may_lack + [wanted] * (wanted is not None):
        trouble = objects.process.host.access_error(f"{directory}/{name}")
        if trouble is not None and (name == wanted or trouble != missing):
            raise QapiError(f"Unable to access credentials {directory}/{name}: {trouble}")


def _complete_monitor(objects: Objects, obj: UserObject) -> None:
    name = obj.options["chardev"]
    chardev = objects.chardevs.get(name)
    if chardev is None:
        raise QapiError(f'chardev "{name}" not found')
    if chardev.busy:
        raise QapiError(f"chardev '{name}' is already in use")
    if objects.make_monitor is None:
        raise NotModelledError(f"object {obj.type}")
    options = {key: obj.values[key] for key in ("pretty", "readline") if key in obj.values}
    monitor = objects.make_monitor(name, human=obj.type == "monitor-hmp", **options)
    obj.on_delete.append(monitor.detach)
    if obj.type == "monitor-qmp":
        monitor.on_client_gone.append(lambda: _client_gone(objects, obj, name))


def _client_gone(objects: Objects, obj: UserObject, chardev: str) -> None:
    """`close-action`; see monitor/qmp.c: monitor_qmp_self_delete_bh(), of 11.1."""
    if obj.values.get("close-action") == "delete":
        objects.drop(obj)
        objects.chardevs.remove(chardev)


def _complete_qtest(objects: Objects, obj: UserObject) -> None:
    if objects.of_type("qtest") != [obj] or objects.qom.container("/machine").child("qtest"):
        raise QapiError("Only one instance of qtest can be created")
    if objects.make_qtest is None:
        raise NotModelledError(f"object {obj.type}")
    server = objects.make_qtest(obj.options["chardev"], obj.options.get("log"))
    obj.on_delete.append(server.detach)


def _complete_crypto(objects: Objects, obj: UserObject) -> None:  # noqa: ARG001
    if obj.values.get("queues", 1) != 1:
        raise QapiError("Only support one queue in cryptdov-builtin backend")


def _complete_thread_context(objects: Objects, obj: UserObject) -> None:
    wanted = obj.options.get("cpu-affinity")
    if wanted and not objects.process.host.processors().intersection(wanted):
        raise QapiError("Setting CPU affinity failed: Invalid argument")


def _complete_memory(objects: Objects, obj: UserObject) -> None:
    memorybackends.complete(objects.process, obj)


def _complete_host_object(objects: Objects, obj: UserObject) -> None:
    # few machines have one
    from fakeqemu.model.qom import host_objects

    host_objects.complete(objects, obj)


def _complete_plain(objects: Objects, obj: UserObject) -> None:
    """Nothing beyond what the schema asks."""


_COMPLETE: dict[str, Callable[[Any, Any], None]] = {
    "memory-backend": _complete_memory,
    "event-loop-base": _complete_loop,
    "iothread": _complete_loop,
    "throttle-group": _complete_throttle,
    "secret": _complete_secret,
    "rng-backend": _complete_rng,
    "tls-creds": _complete_tls,
    "monitor": _complete_monitor,
    "qtest": _complete_qtest,
    "monitor-qmp": _complete_monitor,
    "monitor-hmp": _complete_monitor,
    "cryptodev-backend-builtin": _complete_crypto,
    "authz": _complete_plain,
    "can-bus": _complete_plain,
    "input-linux": _complete_host_object,
    "pr-manager-helper": _complete_host_object,
    "thread-context": _complete_thread_context,
}
