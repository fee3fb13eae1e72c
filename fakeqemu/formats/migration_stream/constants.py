"""The numbers of QEMU's migration stream, and the bounds the reader sets to what it believes.

The numbers are the wire format and the same in every version; which of them a version knows
is a trait. The bounds are ours: QEMU allocates what a length says, we refuse what no real
machine sends.

See migration/savevm.h; migration/migration.h; migration/ram.c: RAM_SAVE_FLAG_ZERO.
"""

from __future__ import annotations

from enum import IntEnum

MAGIC = 0x5145564D
VERSION = 3
OBSOLETE_VERSION = 2

# what may stand where a section begins
EOF = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_FULL = 0x04
SUBSECTION = 0x05
VMDESCRIPTION = 0x06
CONFIGURATION = 0x07
COMMAND = 0x08
SECTION_FOOTER = 0x7E

#: the version of the `ram` section
RAM_VERSION = 4
TARGET_PAGE_BITS = 12
PAGE_SIZE = 1 << TARGET_PAGE_BITS
#: flags of a RAM record live in the low bits of a page address
PAGE_MASK = ~(PAGE_SIZE - 1) & 0xFFFF_FFFF_FFFF_FFFF


class Ram(IntEnum):
    """Flags of a RAM record."""

    ZERO = 0x02
    MEM_SIZE = 0x04
    PAGE = 0x08
    EOS = 0x10
    CONTINUE = 0x20
    XBZRLE = 0x40
    HOOK = 0x80
    COMPRESS_PAGE = 0x100
    MULTIFD_FLUSH = 0x200


class VmCommand(IntEnum):
    """Numbers of QEMU_VM_COMMAND; the names are those QEMU prints."""

    OPEN_RETURN_PATH = 1
    PING = 2
    POSTCOPY_ADVISE = 3
    POSTCOPY_LISTEN = 4
    POSTCOPY_RUN = 5
    POSTCOPY_RAM_DISCARD = 6
    PACKAGED = 7
    ENABLE_COLO = 8
    POSTCOPY_RESUME = 9
    RECV_BITMAP = 10
    SWITCHOVER_START = 11


#: payload lengths that are fixed
COMMAND_LENGTH = {
    VmCommand.OPEN_RETURN_PATH: 0,
    VmCommand.PING: 4,
    VmCommand.POSTCOPY_LISTEN: 0,
    VmCommand.POSTCOPY_RUN: 0,
    VmCommand.POSTCOPY_RESUME: 0,
    VmCommand.PACKAGED: 4,
    VmCommand.SWITCHOVER_START: 0,
}


#: the ping that ends a package: its pong says that all of it is loaded (11.1)
PACKAGE_LOADED = 0x42


class PostcopyState(IntEnum):
    """How far a destination is with postcopy; QEMU shows the numbers in its errors."""

    NONE = 0
    ADVISE = 1
    DISCARD = 2
    LISTENING = 3
    RUNNING = 4
    END = 5


#: longest machine type name believed, in bytes
MACHINE_NAME_LIMIT = 4096
#: most capabilities in the configuration section
CAPABILITY_LIMIT = 256
#: most RAM blocks in one list
RAM_BLOCK_LIMIT = 65_536
#: most sections of devices in one stream
SECTION_LIMIT = 65_536
#: longest device section, in bytes; it is counted, not kept
OPAQUE_LIMIT = 1 << 32
#: longest description believed, in bytes; longer ones are skipped unread
DESCRIPTION_LIMIT = 8 << 20
#: longest package of device states for postcopy
PACKAGE_LIMIT = 64 << 20
#: most bytes kept of a stream without section footers until its description comes
TAIL_LIMIT = 32 << 20
#: what a page compressed by zlib needs at most
COMPRESS_BOUND = PAGE_SIZE + (PAGE_SIZE >> 12) + (PAGE_SIZE >> 14) + (PAGE_SIZE >> 25) + 13
