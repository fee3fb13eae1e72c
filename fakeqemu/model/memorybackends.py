"""What memory backends check: their properties, and the file or huge pages they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.objects import UserObject

#: host NUMA nodes that a mask has room for
_HOST_NODES = 128
_PAGE = 4096
_HUGE_PAGE = 2 << 20


def set_property(vm: Machine, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
    """A property is set while the object is made. Raises QapiError."""
    if name in ("size", "prealloc-threads") and not value:
        raise QapiError(f"property '{name}' of {obj.type} doesn't take value '0'")
    if name == "host-nodes" and any(node > _HOST_NODES for node in value):
        bad = next(node for node in value if node > _HOST_NODES)
        raise QapiError(f"Invalid host-nodes value: {bad}")
    other = {"prealloc": ("reserve", True), "reserve": ("prealloc", False)}.get(name)
    if other is not None:
        now = obj.values.get(other[0], other[1])
        if (name, value, now) in (("prealloc", True, False), ("reserve", False, True)):
            raise QapiError("'prealloc=on' and 'reserve=off' are incompatible")


def change(vm: Machine, obj: UserObject, name: str, value: Any) -> None:
    """qom-set of a finished backend. Raises QapiError."""
    if name == "size":
        raise QapiError(f"cannot change property {name} of {obj.type} ")
    if name == "mem-path":
        raise QapiError(f"cannot change property 'mem-path' of {obj.type}")
    if name in ("pmem", "readonly", "rom"):
        raise QapiError(f"cannot change property '{name}' of {obj.type}.")
    if name in ("align", "offset"):
        raise QapiError(f"cannot change property '{name}' of {obj.type}")
    if name in ("share", "reserve", "hugetlb", "hugetlbsize", "seal"):
        raise QapiError("cannot change property value")
    set_property(vm, obj, name, value)
    obj.values[name] = value


def complete(vm: Machine, obj: UserObject) -> None:
    """Everything is set: get the memory. Raises QapiError."""
    if obj.type == "memory-backend-shm" and obj.options.get("share") is False:
        raise QapiError("can't create shm backend with `share=off`")
    align = obj.options.get("align", 0)
    if align % _PAGE:
        raise QapiError(f"alignment 0x{align:x} must be multiples of page size 0x{_PAGE:x}")
    if "mem-path" in obj.shapes:
        _open_backing_store(vm, obj)
    elif obj.values.get("hugetlb") and obj.values["size"] % (
        obj.values.get("hugetlbsize") or _HUGE_PAGE
    ):
        raise QapiError(f"failed to resize memfd to {obj.values['size']}: Invalid argument")
    nodes, policy = obj.values.get("host-nodes", []), obj.values.get("policy", "default")
    if nodes and policy == "default":
        raise QapiError(
            "host-nodes must be empty for policy default, or you should explicitly specify a"
            " policy other than default"
        )
    if not nodes and policy != "default":
        raise QapiError(f"host-nodes must be set for policy {policy}")


def _open_backing_store(vm: Machine, obj: UserObject) -> None:
    """Make a backend's file, or find it if it may only be read. Raises QapiError."""
    path = obj.values["mem-path"]
    if not path:
        raise QapiError("mem-path property not set")
    if obj.values.get("readonly") and not vm.profile.traits.readonly_memory_file_made:
        why = vm.host.file_error(path)
    else:
        try:
            vm.host.create_file(path, obj.values["size"])
        except IsADirectoryError:
            return  # a nameless file inside it does
        except OSError as error:
            why = error.strerror
        else:
            why = None
    if why is not None:
        raise QapiError(f"can't open backing store {path} for guest RAM: {why}")
