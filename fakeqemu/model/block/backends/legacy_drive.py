"""-drive: the old way to ask for a medium, a backend and sometimes a device, all in one.

The option string's texts are taken apart as QEMU does: what is about the drive as such, what is
about its backend, and the rest, which are options of the node.

See blockdev.c: drive_new(), blockdev_init() and extract_common_blockdev_options().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.model.block.backends.backend import Backend, RootState
from fakeqemu.model.block.drivers.driver import DRIVERS
from fakeqemu.model.block.graph import node_options, permissions as perms
from fakeqemu.model.block.graph.filenames import FileArgument
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.qom.throttle_limits import check_limits
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import FakeQemuError, QapiError
from fakeqemu.qapi.readers import qemu_opts

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.profile import MachineType

#: interfaces, in QEMU's order
INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
_MAX_UNITS = {"ide": 2, "scsi": 7}
_ERROR_BUSES = {"ide", "scsi", "virtio", "none"}
CACHE_MODES = {
    "off": (True, False, False), "none": (True, False, False),
    "directsync": (True, False, True), "writeback": (False, False, False),
    "unsafe": (False, True, False), "writethrough": (False, False, True),
}  # fmt: skip
_RENAMED = {
    **{f"{unit}{end}": f"throttling.{unit}-total{end.replace('_', '-')}"
       for unit in ("iops", "bps") for end in ("", "_max")},
    **{f"{unit}_{way}{end}": f"throttling.{unit}-{full}{end.replace('_', '-')}"
       for unit in ("iops", "bps") for way, full in (("rd", "read"), ("wr", "write"))
       for end in ("", "_max")},
    "iops_size": "throttling.iops-size", "group": "throttling.group", "readonly": "read-only",
}  # fmt: skip
_LEGACY = {"media", "if", "bus", "unit", "index", "file", "werror", "rerror", "copy-on-read",
           "read-only"}  # fmt: skip
_OF_BACKEND = ("throttling.", "stats-account-", "stats-intervals.")
_DISCARD = {"off": "ignore", "ignore": "ignore", "on": "unmap", "unmap": "unmap"}
_ACTIONS = {"ignore", "enospc", "stop", "report"}
_LIMITS = [f"{u}-{w}{e}" for u in ("bps", "iops") for w in ("total", "read", "write")
           for e in ("", "-max", "-max-length")] + ["iops-size"]  # fmt: skip


class FormatHelp(FakeQemuError):  # noqa: N818 - it is no error
    """`format=help`: the list is printed, and there is no drive."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class DriveAddress:
    """Where a drive without a -device of its own is."""

    interface: str
    bus: int
    unit: int
    media: str


def default_interface(block_defaults: list[dict[str, Any]]) -> tuple[str, int]:
    """A machine's interface for drives, and how many units a bus has; from its default CD drive."""
    for entry in block_defaults:
        found = re.fullmatch(r"([a-z]+)(\d)(?:-cd)?(\d)", entry["device"])
        if found is not None:
            return found[1], 2 // int(found[2]) if int(found[2]) else 0
    return "none", 0


class Drives:
    """The -drive options of one machine."""

    def __init__(self, block: BlockLayer, machine: MachineType | None) -> None:
        self.block = block
        facts = block.process.profile.per_machine(machine.name) if machine is not None else None
        self.defaults: list[dict[str, Any]] = facts["block-defaults"] if facts else []
        self.interface, self._units = default_interface(self.defaults)
        if self.interface == "none" and machine is not None:
            from fakeqemu.model.boards.targets.drive_interfaces import interface_of

            self.interface = interface_of(block.process.profile, machine)
        self._places: dict[Backend, DriveAddress] = {}

    def max_units(self, interface: str) -> int:
        """Units on a bus of an interface; 0: no buses."""
        if interface == self.interface and self._units:
            return self._units
        return _MAX_UNITS.get(interface, 0)

    def at(self, interface: str, bus: int, unit: int) -> Backend | None:
        """The drive at a place."""
        for backend, place in self._places.items():
            if (place.interface, place.bus, place.unit) == (interface, bus, unit):
                return backend
        return None

    def place(self, backend: Backend) -> DriveAddress | None:
        """Where a drive is."""
        return self._places.get(backend)

    def add(
        self, given: Mapping[str, str], id: str | None, *, snapshot: bool = False,
        default: str | None = None, location: str = "", cache: str | None = None,
    ) -> Backend:  # fmt: skip
        """One -drive, asked for at `location`; `cache` stands before another. Raises QapiError."""
        options = _rename(dict(given))
        options.pop("id", None)
        if snapshot:
            options.setdefault("snapshot", "on")
        _cache_mode(options)
        if cache is not None:  # nobody takes the first of two: to the block layer it is an option
            options["cache"] = cache
        media = options.get("media", "disk")
        if media not in ("disk", "cdrom"):
            raise QapiError(f"'{media}' invalid media")
        read_only = media == "cdrom" or _bool(options, "read-only")
        cor = _bool(options, "copy-on-read")
        if read_only and cor:
            where = f"{location}: " if location else ""
            self.block.process.host.warn(
                f"{where}warning: disabling copy-on-read on read-only drive"
            )
            cor = False
        place = self._place(options, media, default or self.interface)
        name = id if id is not None else self._name(place)
        for which in ("werror", "rerror"):
            if which in options and place.interface not in _ERROR_BUSES:
                raise QapiError(f"{which} is not supported by this bus type")
        backend = self._open(options, name, read_only=read_only, copy_on_read=cor)
        backend.legacy = {"drive": True, "automatic": place.interface != "none",
                          "media": media}  # fmt: skip
        self._places[backend] = place
        return backend

    def forget(self, backend: Backend) -> None:
        """The drive is gone."""
        self._places.pop(backend, None)

    # -- where -----------------------------------------------------------------------------------

    def _place(self, options: dict[str, str], media: str, default: str) -> DriveAddress:
        interface = options.get("if", default)
        if interface not in INTERFACES:
            raise QapiError(f"unsupported bus type '{interface}'")
        bus = _number(options, "bus", 0)
        unit = _number(options, "unit", -1)
        index = _number(options, "index", -1)
        units = self.max_units(interface)
        if index != -1:
            if bus or unit != -1:
                raise QapiError("index cannot be used with bus and unit")
            bus, unit = divmod(index, units) if units else (0, index)
        if unit == -1:
            unit = 0
            while self.at(interface, bus, unit) is not None:
                unit += 1
                if units and unit >= units:
                    bus, unit = bus + 1, unit - units
        if units and unit >= units:
            raise QapiError(f"unit {unit} too big (max is {units - 1})")
        if self.at(interface, bus, unit) is not None:
            raise QapiError(f"drive with bus={bus}, unit={unit} (index={index}) exists")
        return DriveAddress(interface, bus, unit, media)

    def _name(self, place: DriveAddress) -> str:
        kind = ""
        if place.interface in ("ide", "scsi"):
            kind = "-cd" if place.media == "cdrom" else "-hd"
        if self.max_units(place.interface):
            return f"{place.interface}{place.bus}{kind}{place.unit}"
        return f"{place.interface}{kind}{place.unit}"

    # -- opening ---------------------------------------------------------------------------------

    def _open(
        self, options: dict[str, str], name: str, *, read_only: bool, copy_on_read: bool
    ) -> Backend:
        block = self.block
        snapshot = _bool(options, "snapshot")
        account = {
            key: _bool(options, f"stats-account-{key}", default=True)
            for key in ("invalid", "failed")
        }
        writeback = _bool(options, "cache.writeback", default=True)
        aio = options.pop("aio", "threads")
        if aio not in ("threads", "native", "io_uring"):
            raise QapiError("invalid aio option")
        limits, group = _throttling(options)
        detect_zeroes = options.get("detect-zeroes", "off")
        if detect_zeroes not in ("off", "on", "unmap"):
            raise QapiError(f"invalid parameter value: {detect_zeroes}")
        format = options.pop("format", None)
        if format in ("help", "?"):
            raise FormatHelp(block.process.profile.help("-drive format=help"))
        if format is not None and "driver" in options:
            raise QapiError("Cannot specify both 'driver' and 'format'")
        actions = {}
        for which, key in (("write", "werror"), ("read", "rerror")):
            action = options.get(key)
            if action is not None and (action not in _ACTIONS or (action, which) == (
                "enospc", "read"
            )):  # fmt: skip
                raise QapiError(f"'{action}' invalid {which} error action")
            actions[which] = action or {"write": "enospc", "read": "report"}[which]
        file = options.get("file", "")
        rest = {
            k: v for k, v in options.items()
            if k not in _LEGACY and not k.startswith(_OF_BACKEND)
            and k not in ("snapshot", "cache.writeback", "detect-zeroes", "id")
        }  # fmt: skip
        if format is not None:
            rest["driver"] = format
        backend = block.backends.create()
        try:
            plain = set(rest) - {"cache.direct", "cache.no-flush"}
            if not file and not plain:
                backend.root_state = RootState(read_only, {}, detect_zeroes)
            else:
                self._insert(
                    backend, rest, file, aio=aio,
                    read_only=read_only, snapshot=snapshot, copy_on_read=copy_on_read,
                )  # fmt: skip
                assert backend.node is not None
                backend.node.detect_zeroes = detect_zeroes
            backend.account_invalid = account["invalid"]
            backend.account_failed = account["failed"]
            backend.writeback = writeback
            backend.on_error = actions
            if any(limits[k] for k in _LIMITS if not k.endswith("length")):
                block.backends.set_throttle(backend, limits, group or name)
            self._give_name(backend, name)
        except QapiError:
            block.backends.drop(backend)
            raise
        return backend

    def _give_name(self, backend: Backend, name: str) -> None:
        backends = self.block.backends
        backends.all.remove(backend)
        try:
            probe = backends.create(name)
        finally:
            backends.all.append(backend)
        backends.all.remove(probe)
        backend.name = name
        backends.named[name] = backend

    def _insert(
        self, backend: Backend, rest: dict[str, str], file: str, *, aio: str,
        read_only: bool, snapshot: bool, copy_on_read: bool,
    ) -> None:  # fmt: skip
        graph = self.block.graph
        options = qdict.nested(rest)
        driver = options.get("driver")
        if driver is not None and driver not in graph.process.profile.schema.enum_values(
            "BlockdevDriver"
        ):
            raise QapiError(f"Unknown driver '{driver}'")
        if file:
            kind = DRIVERS.get(driver) if driver is not None else None
            protocol = kind is not None and (kind.is_protocol or kind.in_file_names)
            file = FileArgument(file)
            if protocol or file.startswith("json:"):
                options["filename"] = file
            else:
                inner = options.setdefault("file", {})
                if isinstance(inner, str) or "filename" in inner:
                    raise QapiError(
                        "Can't specify 'file' and 'filename' options at the same time"
                    )
                inner["filename"] = file
        typed = self._typed(options)
        if "discard" in typed:
            if typed["discard"] not in _DISCARD:
                raise QapiError("Invalid discard option")
            typed["discard"] = _DISCARD[typed["discard"]]
        typed.setdefault("read-only", read_only)
        typed.setdefault("auto-read-only", True)
        node = open_node(graph, typed, strict=True, aio=aio)
        with graph.referenced(node):
            if snapshot:
                node = self._temporary(node)
            node.copy_on_read += copy_on_read
            backend.perm, backend.shared = perms.CONSISTENT_READ, perms.ALL
            backend.insert(node)

    def _temporary(self, below: Any) -> Any:
        """An overlay that is gone with the process."""
        from fakeqemu.formats.qcow2.creation import create_empty
        from fakeqemu.formats.qcow2.header import Header
        from fakeqemu.model.block.operations import relinking

        graph = self.block.graph
        number = len(graph.temporary.names())
        try:
            folder = graph.files.temporary_folder()
        except OSError as error:
            raise QapiError(
                f"Could not open temporary file '{error.filename}/vl.XXXXXX': {error.strerror}"
            ) from None
        path = f"{folder}/vl.{number:06}"
        file = graph.temporary.open(path, writable=True, create=True)
        header = Header(size=below.driver.length(below))
        create_empty(_MemoryStore(file), header)
        options = {"driver": "qcow2", "file": {"driver": "file", "filename": path},
                   "backing": None, "read-only": below.read_only,
                   "cache": {"direct": False, "no-flush": True}}  # fmt: skip
        node = open_node(graph, options)
        with graph.referenced(node):
            relinking.set_backing(graph, node, below)
            node.refs += 1
        node.refs -= 1
        return node

    def typed(self, options: Mapping[str, str]) -> dict[str, Any]:
        """Options of a node, given as texts. Raises QapiError."""
        return self._typed(qdict.nested(options))

    # -- texts into values -----------------------------------------------------------------------

    def _typed(self, options: dict[str, Any]) -> dict[str, Any]:
        return node_options.typed(self.block.process.profile, options)


class _MemoryStore:
    """A file in memory as the qcow2 format wants it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def size(self) -> int:
        size: int = self._file.size()
        return size

    def read(self, offset: int, count: int) -> bytes:
        data: bytes = self._file.read(offset, count)
        return data + bytes(count - len(data))

    def write(self, offset: int, data: bytes) -> None:
        self._file.write(offset, data)

    def zero(self, offset: int, count: int) -> None:
        self._file.zero(offset, count)

    def truncate(self, size: int, prealloc: str = "off") -> None:  # noqa: ARG002
        self._file.truncate(size)


def _rename(options: dict[str, str]) -> dict[str, str]:
    for old, new in _RENAMED.items():
        if old in options:
            if new in options:
                raise QapiError(
                    f"'{new}' and its alias '{old}' can't be used at the same time"
                )
            options[new] = options.pop(old)
    return options


def _cache_mode(options: dict[str, str]) -> None:
    mode = options.pop("cache", None)
    if mode is None:
        return
    if mode not in CACHE_MODES:
        raise QapiError("invalid cache option")
    direct, no_flush, writethrough = CACHE_MODES[mode]
    options.setdefault("cache.writeback", "off" if writethrough else "on")
    options.setdefault("cache.direct", "on" if direct else "off")
    options.setdefault("cache.no-flush", "on" if no_flush else "off")


def _throttling(options: dict[str, str]) -> tuple[dict[str, int], str | None]:
    limits = {name: int(name.endswith("length")) for name in _LIMITS}
    for name in _LIMITS:
        key = f"throttling.{name}"
        if key in options:
            limits[name] = _number(options, key, 0)
    check_limits(limits)
    return limits, options.get("throttling.group")


def _bool(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    return qemu_opts.parse_bool(name, options[name]) if name in options else default


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    return qemu_opts.parse_number(name, options[name]) if name in options else default
