"""Image formats of other programs: recognised by their first bytes, but not modelled.

An image that is of another kind is refused in QEMU's words; one that is right is not modelled.

See block.c: bdrv_probe_all(); block/vmdk.c: vmdk_probe(); block/vdi.c: vdi_probe(); block/vpc.c:
vpc_probe(); block/vhdx.c: vhdx_probe().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Driver, driver
from fakeqemu.model.block.graph.filenames import filename
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

_SECTOR = 512
#: bytes of a cloop's block at most, and of the end of a dmg that has its trailer
_LARGEST_BLOCK, _TRAILER, _SEARCHED = 64 << 20, 1023, 515
_VPC = b"conectix"
_LUKS = b"LUKS\xba\xbe"


class Foreign(Driver):
    """One such format."""

    modelled = False
    supports_create = True
    #: where its mark stands, and what it may be
    offset = 0
    marks: tuple[bytes, ...] = ()
    #: what is said of an image without; `{}` is what stands there, as a number
    refusal = ""
    #: whether QEMU only reads such images
    only_reads = False

    def open(self, node: Node, options: dict[str, Any]) -> None:  # noqa: ARG002
        """Look for the mark. Raises QapiError."""
        super().open(node, {})
        assert node.file is not None
        if self.only_reads and not node.read_only:
            if not node.auto_read_only:
                raise QapiError("Image is read-only")
            node.read_only = True
        self._look(node.file)
        raise NotModelledError(f"block driver {self.name}")

    def _look(self, file: Node) -> None:
        if not self.marks:
            return
        found = base.read(file, self.offset, _SECTOR)
        if not found.startswith(self.marks):
            number = int.from_bytes(found[:4], "little")
            text = self.refusal or f"Could not open '{filename(file)}': Invalid argument"
            raise QapiError(text.format(f"{number:08x}") if self.refusal else text)


@driver
class Qcow(Foreign):
    """The older qcow."""

    name = "qcow"
    marks = (b"QFI\xfb\0\0\0\1",)
    refusal = "Image not in qcow format"


@driver
class Qed(Foreign):
    """QED."""

    name = "qed"
    marks = (b"QED\0",)
    refusal = "Image not in QED format"


@driver
class Vmdk(Foreign):
    """VMware's."""

    name = "vmdk"
    marks = (b"KDMV", b"COWD", b"# Disk DescriptorFile")
    refusal = "invalid VMDK image descriptor"


@driver
class Vdi(Foreign):
    """VirtualBox's."""

    name = "vdi"
    offset = 0x40
    marks = (b"\x7f\x10\xda\xbe",)
    refusal = "Image not in VDI format (bad signature {})"


@driver
class Vpc(Foreign):
    """Virtual PC's."""

    name = "vpc"

    def _look(self, file: Node) -> None:
        """Its footer is at the end too, and only there if its size is fixed."""
        end = base.length(file) - _SECTOR
        if base.read(file, 0, len(_VPC)) == _VPC:
            return
        if end < 0 or base.read(file, end, len(_VPC)) != _VPC:
            raise QapiError("invalid VPC image")


@driver
class Vhdx(Foreign):
    """Hyper-V's."""

    name = "vhdx"
    marks = (b"vhdxfile",)


@driver
class Parallels(Foreign):
    """Parallels'."""

    name = "parallels"
    marks = (b"WithoutFreeSpace", b"WithouFreSpacExt")
    refusal = "Image not in Parallels format"


@driver
class Bochs(Foreign):
    """Bochs'."""

    name = "bochs"
    marks = (b"Bochs Virtual HD Image\0",)
    refusal = "Image not in Bochs format"
    supports_create = False
    only_reads = True


@driver
class Cloop(Foreign):
    """Compressed loop images."""

    name = "cloop"
    supports_create = False
    only_reads = True

    def _look(self, file: Node) -> None:
        """Its header has the size of a block, in bytes. See block/cloop.c: cloop_open()."""
        size = int.from_bytes(base.read(file, 128, 4), "big")
        if size == 0:
            raise QapiError("block_size cannot be zero")
        if size % _SECTOR:
            raise QapiError(f"block_size {size} must be a multiple of 512")
        if size > _LARGEST_BLOCK:
            raise QapiError(f"block_size {size} must be 64 MB or less")


@driver
class Dmg(Foreign):
    """Apple's."""

    name = "dmg"
    supports_create = False
    only_reads = True

    def _look(self, file: Node) -> None:
        """Its trailer is in the last sectors. See block/dmg.c: dmg_find_koly_offset()."""
        length = base.length(file)
        if length < _SECTOR:
            raise QapiError("dmg file must be at least 512 bytes long")
        start = max(0, length - _TRAILER)
        if b"koly" not in base.read(file, start, min(length, _SEARCHED)):
            raise QapiError("Could not locate UDIF trailer in dmg file")


@driver
class Luks(Foreign):
    """Encrypted: the contents are unknown without the key."""

    name = "luks"

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Ask for the key. Raises QapiError."""
        Driver.open(self, node, options)
        if options.get("key-secret") is None:
            raise QapiError("Parameter 'key-secret' is required for cipher")
        assert node.file is not None
        if base.read(node.file, 0, len(_LUKS)) != _LUKS:
            raise QapiError("Volume is not in LUKS format")
        raise NotModelledError("block driver luks")
