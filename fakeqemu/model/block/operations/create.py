"""Making image files: blockdev-create's job, and the images that other commands make.

See block/create.c: qmp_blockdev_create(); block.c: bdrv_img_create() and bdrv_co_create().
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.qcow2.creation import create_empty
from fakeqemu.formats.qcow2.header import (
    COMPRESSION,
    EXTENDED_L2,
    EXTERNAL_DATA,
    LAZY_REFCOUNTS,
    RAW_DATA,
    Header,
)
from fakeqemu.model.block.drivers.driver import DRIVERS
from fakeqemu.model.block.drivers.protocol import lock_error, of_fdset, resize
from fakeqemu.model.block.drivers.qcow2.stores import NodeStore
from fakeqemu.model.block.files import ImageLocked
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import filename as filename_of
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.block.jobs.job import Job, Work
from fakeqemu.model.fds.fdset import open_failure
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.schema import ObjectType

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.profile import Profile

_DEFAULT_CLUSTER = 65536
_SECTOR = 512


def _check_known(profile: Profile, driver: str) -> None:
    if driver in profile.part("block-drivers").get("unknown"):
        raise QapiError(f"Block driver '{driver}' not found or not supported")


class Create(Job):
    """blockdev-create."""

    type = "create"

    def __init__(self, block: BlockLayer, id: str, options: dict[str, Any]) -> None:
        self.options = options
        self.block = block
        driver = options["driver"]
        profile = block.process.profile
        _check_known(profile, driver)
        info = profile.schema.commands["blockdev-create"]
        if not _has_create_options(info.arg_type, driver):
            raise QapiError("Driver does not support blockdev-create")
        known = DRIVERS.get(driver)
        if known is None or (known.modelled and not known.supports_create):
            raise NotModelledError(f"blockdev-create of {driver}")
        super().__init__(block.jobs, id, auto_dismiss=False)

    def work(self) -> Work:
        """Make it."""
        self.total = 1
        yield 0
        try:
            match self.options["driver"]:
                case "file":
                    create_file(self.block.graph, self.options)
                case "qcow2":
                    create_qcow2(self.block, self.options)
                case driver:
                    graph = self.block.graph
                    if not {"file", "header"} & {*self.options}:
                        raise QapiError(
                            "Either the parameter 'header' or 'file' must be specified"
                        )
                    if "file" in self.options:
                        with graph.referenced(open_node(graph, self.options["file"])):
                            pass
                    raise NotModelledError(f"blockdev-create of {driver}")
        finally:
            self.done = 1


def _has_create_options(arguments: ObjectType, driver: str) -> bool:
    """Whether BlockdevCreateOptions has members of its own for a driver: it can create then."""
    options = next(member.type for member in arguments.members if member.name == "options")
    assert isinstance(options, ObjectType)
    variant = options.variant(driver)
    return variant is not None and bool(variant.members)


class Amend(Job):
    """x-blockdev-amend: nothing of an image that is not encrypted can be amended."""

    type = "amend"

    def __init__(self, block: BlockLayer, id: str, node: Node, options: dict[str, Any]) -> None:
        self.options = options
        driver = node.driver
        _check_known(block.process.profile, options["driver"])
        if options["driver"] != driver.name:
            raise QapiError("x-blockdev-amend doesn't support changing the block driver")
        if driver.name == "luks":
            raise NotModelledError("x-blockdev-amend of luks")
        if driver.name != "qcow2":
            raise QapiError("Driver does not support x-blockdev-amend")
        self._encrypted = driver.encrypted()
        super().__init__(block.jobs, id, auto_dismiss=False)

    def work(self) -> Work:
        """Look at what is asked for."""
        self.total = self.done = 1
        yield 0
        if self.options.get("encrypt") is not None:
            if self._encrypted:
                raise NotModelledError("x-blockdev-amend of encrypted images")
            raise QapiError("image is not encrypted, can't amend")


def create_file(graph: Graph, options: dict[str, Any]) -> None:
    """A file of the host. Raises QapiError."""
    path, size = options["filename"], options["size"]
    try:
        if path.startswith("/dev/fdset/"):
            file = of_fdset(graph, path, writable=True)
        else:
            file = graph.files.open(path, writable=True, create=True)
    except ImageLocked as locked:
        raise lock_error(locked, path) from None
    except OSError as error:
        named = graph.process.profile.traits.fdset_failures_named
        why = open_failure(path, os.O_RDWR | os.O_CREAT, error, steps_named=named)
        raise QapiError(why) from None
    try:
        resize(file, 0)
        resize(file, size, options.get("preallocation", "off"))
    finally:
        file.close()


def header_of(options: dict[str, Any]) -> Header:
    """The header of a new qcow2 image. Raises QapiError."""
    size = options["size"]
    if size % _SECTOR:
        raise QapiError(f"Image size must be a multiple of {_SECTOR} bytes")
    version = {"v2": 2, "v3": 3}[options.get("version", "v3")]
    extended = options.get("extended-l2", False)
    cluster = options.get("cluster-size", _DEFAULT_CLUSTER)
    if cluster & cluster - 1 or not 512 <= cluster <= 1 << 21:
        raise QapiError("Cluster size must be a power of two between 512 and 2048k")
    if extended:
        if cluster < 16384:
            raise QapiError(
                "Extended L2 entries are only supported with cluster sizes of at least"
                " 16384 bytes"
            )
        if version < 3:
            raise _needs_v3("Extended L2 entries are only supported with compatibility level")
    if options.get("backing-fmt") and not options.get("backing-file"):
        raise QapiError("Backing format cannot be used without backing file")
    preallocated = options.get("preallocation", "off") != "off"
    if preallocated and options.get("backing-file") and not extended:
        raise QapiError(
            "Backing file and preallocation can only be used at the same time"
            " if extended_l2 is on"
        )
    if options.get("lazy-refcounts") and version < 3:
        raise _needs_v3("Lazy refcounts only supported with compatibility level")
    bits = options.get("refcount-bits", 16)
    if not 1 <= bits <= 64 or bits & bits - 1:
        raise QapiError("Refcount width must be a power of two and may not exceed 64 bits")
    if version < 3 and bits != 16:
        raise QapiError(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above"
            " (use version=v3 or greater)"
        )
    if options.get("data-file-raw") and options.get("data-file") is None:
        raise QapiError("data-file-raw requires data-file")
    if options.get("data-file-raw") and options.get("backing-file"):
        raise QapiError("Backing file and data-file-raw cannot be used at the same time")
    external = options.get("data-file") is not None
    if external and version < 3:
        raise _needs_v3("External data files are only supported with compatibility level")
    if options.get("encrypt") is not None:
        from fakeqemu.model.block.drivers.qcow2 import encryption

        encryption.check_options(options["encrypt"])
    if options.get("compression-type", "zlib") != "zlib" and version < 3:
        raise _needs_v3("Non-zlib compression type is only supported with compatibility level")
    zstd = options.get("compression-type", "zlib") != "zlib"
    return Header(
        version=version,
        size=size,
        cluster_bits=cluster.bit_length() - 1,
        backing_file=options.get("backing-file") or "",
        backing_format=options.get("backing-fmt") or "",
        refcount_order=bits.bit_length() - 1,
        compatible=LAZY_REFCOUNTS if options.get("lazy-refcounts") else 0,
        incompatible=(EXTENDED_L2 if extended else 0)
        | (COMPRESSION if zstd else 0)
        | (EXTERNAL_DATA if external else 0),
        autoclear=RAW_DATA if options.get("data-file-raw") else 0,
        compression=1 if zstd else 0,
    )


def _needs_v3(start: str) -> QapiError:
    return QapiError(f"{start} 1.1 and above (use version=v3 or greater)")


def create_qcow2(block: BlockLayer, options: dict[str, Any]) -> None:
    """A qcow2 image in a node. Raises QapiError."""
    graph = block.graph
    prealloc = options.get("preallocation", "off")
    if options.get("data-file-raw") and prealloc == "off":
        prealloc = "metadata"  # the tables lead to where the data file has all
    node = open_node(graph, options["file"])
    with ExitStack() as stack:
        stack.enter_context(graph.referenced(node))
        header = header_of(options)
        data: NodeStore | None = None
        if header.incompatible & EXTERNAL_DATA:
            data_node = open_node(graph, options["data-file"])
            stack.enter_context(graph.referenced(data_node))
            header.data_file = filename_of(data_node)
            data = _writable(block, data_node, stack)
        image = create_empty(_writable(block, node, stack), header, prealloc, data)
        if options.get("encrypt") is not None:
            from fakeqemu.model.block.drivers.qcow2 import encryption

            encryption.encrypt_new(graph, image, options["encrypt"])


def _writable(block: BlockLayer, node: Node, stack: ExitStack) -> NodeStore:
    """A node to write a new image to, as long as `stack` has it. Raises QapiError."""
    backend: Backend = block.backends.create()
    stack.callback(block.backends.drop, backend)
    backend.perm, backend.shared = perms.WRITE | perms.RESIZE, perms.ALL
    backend.insert(node)
    return NodeStore(node)


def create_image(
    block: BlockLayer,
    filename: str,
    format: str,
    size: int,
    backing: Node | None = None,
) -> None:
    """What `qemu-img create` would: a file with an image in it. Raises QapiError."""
    known = block.process.profile.schema.enum_values("BlockdevDriver")
    if format not in known:
        raise QapiError(f"Unknown file format '{format}'")
    kind = DRIVERS.get(format)
    if kind is not None and not kind.supports_create:
        raise QapiError(f"Format driver '{format}' does not support image creation")
    if kind is None or not kind.modelled:
        raise NotModelledError(f"creating {format} images")
    backing_file = filename_of(backing) if backing is not None else ""
    backing_format = backing.driver.name if backing is not None else ""
    if backing_file and not kind.supports_backing:
        raise QapiError(f"Backing file not supported for file format '{format}'")
    if backing_file and backing_file == filename:
        raise QapiError(
            "Error: Trying to create an image with the same filename as the backing file"
        )
    block.process.host.print(_formatting(filename, format, size, backing_file, backing_format))
    path = filename.removeprefix("file:")
    plain = format in ("raw", "file")
    create_file(block.graph, {"filename": path, "size": size if plain else 0})
    if plain:
        return
    options = {
        "size": -(-size // _SECTOR) * _SECTOR,
        "file": {"driver": "file", "filename": path},
        "backing-file": backing_file,
        "backing-fmt": backing_format,
    }
    try:
        create_qcow2(block, options)
    except BaseException:
        # half an image is of no use to anybody; see block/qcow2.c: qcow2_co_create_opts()
        block.graph.files.remove(path)
        raise


def _formatting(
    filename: str, format: str, size: int, backing_file: str, backing_format: str
) -> str:
    """The line that is printed of an image about to be made, with the options in force.

    See block.c: bdrv_img_create(), util/qemu-option.c: qemu_opts_print().
    """
    options = {"size": str(size)}
    if backing_file:
        options["backing_file"] = backing_file.replace(",", ",,")
        options["backing_fmt"] = backing_format
    if format == "qcow2":
        before = {"cluster_size": "65536", "extended_l2": "off", "compression_type": "zlib"}
        options = {**before, **options, "lazy_refcounts": "off", "refcount_bits": "16"}
    shown = " ".join(f"{name}={value}" for name, value in options.items())
    return f"Formatting '{filename}', fmt={format} {shown}"
