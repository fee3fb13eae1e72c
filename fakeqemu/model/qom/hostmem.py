"""What memory backends check: their properties, and the file or huge pages they are made of.

See backends/hostmem.c: host_memory_backend_memory_complete() and host_memory_backend_set_size();
backends/hostmem-file.c: file_backend_memory_alloc(); backends/hostmem-memfd.c:
memfd_backend_memory_alloc().
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from fakeqemu.model.host_files import file_size
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_object import UserObject

#: host NUMA nodes that a mask has room for
_HOST_NODES = 128
_PAGE = 4096
_HUGE_PAGE = 2 << 20
_SIZE_MASK = (1 << 64) - 1
#: backends of shared memory that has no name: what it is called
_NAMELESS = {"memory-backend-memfd": "memfd", "memory-backend-shm": "POSIX shared memory"}


def set_property(process: Process, obj: UserObject, name: str, value: Any) -> None:  # noqa: ARG001
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


def change(process: Process, obj: UserObject, name: str, value: Any) -> None:
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
    set_property(process, obj, name, value)
    obj.values[name] = value


def complete(process: Process, obj: UserObject) -> None:
    """Everything is set: get the memory. Raises QapiError."""
    if obj.type == "memory-backend-shm" and obj.options.get("share") is False:
        raise QapiError("can't create shm backend with `share=off`")
    align = obj.options.get("align", 0)
    if align % _PAGE:
        raise QapiError(f"alignment 0x{align:x} must be multiples of page size 0x{_PAGE:x}")
    if "mem-path" in obj.shapes:
        _check_length(process, obj, _open_backing_store(process, obj))
        _map_file(process, obj, process.host.memory.device_error(obj.values["mem-path"]))
        if obj.values.get("prealloc") and obj.values.get("share"):
            _preallocate(process, obj)
    elif obj.type in _NAMELESS:
        _make_nameless(process, obj)
    elif obj.type == "memory-backend-ram":
        _get_ram(process, obj)
    nodes, policy = obj.values.get("host-nodes", []), obj.values.get("policy", "default")
    if nodes and policy == "default":
        raise QapiError(
            "host-nodes must be empty for policy default, or you should explicitly specify a"
            " policy other than default"
        )
    if not nodes and policy != "default":
        raise QapiError(f"host-nodes must be set for policy {policy}")
    if nodes and not any(process.host.processors(node) for node in nodes):
        raise QapiError("cannot bind memory to host NUMA nodes: Invalid argument")


def _whole_pages(size: int) -> int:
    """What QEMU's HOST_PAGE_ALIGN() makes of a size; the last bytes of 64 bits become none."""
    return -(-size // _PAGE) * _PAGE & _SIZE_MASK


def _get_ram(process: Process, obj: UserObject) -> None:
    """Anonymous memory, or that of a memfd. Raises QapiError."""
    size, reserve = _whole_pages(obj.values["size"]), obj.values.get("reserve", True)
    shared = obj.values.get("share") and process.profile.traits.shared_ram_is_file
    if shared and not process.host.memory.shared_error(size):
        reserve = False
    # where QEMU asserts, nothing is as much too little as too much
    number = process.host.memory.map_error(size, reserve=reserve) if size else errno.ENOMEM
    if number:
        raise QapiError(f"cannot set up guest memory '{obj.name}': {os.strerror(number)}")


def _check_length(process: Process, obj: UserObject, found: int) -> None:
    """Whether a file that is not empty is long enough. Raises QapiError."""
    size = _whole_pages(obj.values["size"])
    offset = obj.values.get("offset", 0)
    if found and found < offset + size:
        text = process.profile.traits.backing_store_too_small
        raise QapiError(text.format(name=obj.name, file=found, size=size, offset=offset))


def _make_nameless(process: Process, obj: UserObject) -> None:
    """Shared memory without a name in the file system. Raises QapiError."""
    size, page = obj.values["size"], _huge_page(obj)
    number = process.host.memory.shared_error(size)
    if not number and page and size % page:
        number = errno.EINVAL
    if number:
        raise QapiError(
            f"failed to resize {_NAMELESS[obj.type]} to {size}: {os.strerror(number)}"
        )
    _check_length(process, obj, size)
    _map_file(process, obj)


def _huge_page(obj: UserObject) -> int:
    """Bytes in the huge pages that a backend is of; 0: of none."""
    if not obj.values.get("hugetlb"):
        return 0
    found: int = obj.values.get("hugetlbsize") or _HUGE_PAGE
    return found


def _map_file(process: Process, obj: UserObject, refused: int = 0) -> None:
    """Map what holds the memory. Raises QapiError. See system/physmem.c: file_ram_alloc().

    `refused`: the errno that the kernel has for whatever is mapped.
    """
    size = obj.values["size"]
    whole = _whole_pages(size)
    if whole < _PAGE:
        raise QapiError(
            f"memory size 0x{whole:x} must be equal to or larger than page size 0x{_PAGE:x}"
        )
    # what others see too takes its room from the file
    page = _huge_page(obj)
    private = not obj.values.get("share", obj.type in _NAMELESS)
    reserve = (private or page > 0) and obj.values.get("reserve", True)
    if whole > _SIZE_MASK - _HUGE_PAGE:
        number = errno.EINVAL
    else:
        number = refused or process.host.memory.map_error(whole, reserve=reserve, page=page)
    if number:
        raise QapiError(f"unable to map backing store for guest RAM: {os.strerror(number)}")
    if size % _PAGE and process.profile.traits.memory_file_size_checked:
        raise QapiError(f"backend '{obj.type}' memory size must be multiple of 4 KiB")


def _is_folder(process: Process, path: str) -> bool:
    try:
        return process.host.files.kind(path) == "directory"
    except OSError:
        return False


def _preallocate(process: Process, obj: UserObject) -> None:
    """Whether the file has room for all its pages, which others see. Raises QapiError.

    See util/oslib-posix.c: qemu_prealloc_mem().
    """
    size = obj.values["size"]
    try:
        file = process.host.files.open(obj.values["mem-path"], writable=False)
    except OSError:
        return  # a nameless file in a folder
    try:
        fits = size - file.allocated() <= process.host.files.room(obj.values["mem-path"])
    finally:
        file.close()
    if not fits:
        reason = os.strerror(errno.EFAULT)
        raise QapiError(f"qemu_prealloc_mem: preallocating memory failed: {reason}")


def _open_backing_store(process: Process, obj: UserObject) -> int:
    """Make a backend's file, or find it if it may only be read. Raises QapiError.

    The bytes that were in it.
    """
    path = obj.values["mem-path"]
    if "mem-path" not in obj.options:
        raise QapiError("mem-path property not set")
    found, why = 0, None
    if obj.values.get("readonly"):
        made = process.profile.traits.readonly_memory_file_made
        if _is_folder(process, path) and not made:
            why = os.strerror(errno.EISDIR)
            raise QapiError(f"can't open backing store {path} for guest RAM: {why}")
        if _is_folder(process, path):  # that can be opened
            reason = os.strerror(errno.ENODEV)
            raise QapiError(f"unable to map backing store for guest RAM: {reason}")
        existing = file_size(process.host, path)
        if existing is not None:
            return existing
        why = process.host.file_error(path)
        if made and why == os.strerror(errno.ENOENT):
            why = None
    if why is None:
        try:
            found = process.host.create_file(path, obj.values.get("offset", 0) + obj.values["size"])
        except IsADirectoryError as error:
            if _is_folder(process, path):
                return 0  # a nameless file inside it does
            why = error.strerror
        except OSError as error:
            why = error.strerror
    if why is not None:
        raise QapiError(f"can't open backing store {path} for guest RAM: {why}")
    return found
