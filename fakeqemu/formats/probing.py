"""Which format an image has, as its first bytes say.

See block.c: find_image_format() and bdrv_probe_all(); include/block/block-common.h:
BLOCK_PROBE_BUF_SIZE.
"""

from __future__ import annotations

#: how many bytes are looked at
PROBED = 512
#: first bytes -> format
_MAGICS = (
    (b"QFI\xfb", "qcow2"), (b"QED\0", "qed"), (b"KDMV", "vmdk"), (b"COWD", "vmdk"),
    (b"vhdxfile", "vhdx"), (b"conectix", "vpc"), (b"LUKS\xba\xbe", "luks"),
    (b"WithoutFreeSpace", "parallels"), (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
)  # fmt: skip


def probed_format(head: bytes) -> str:
    """The format of an image that begins with `head`; `raw` where nothing else fits."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "raw")
