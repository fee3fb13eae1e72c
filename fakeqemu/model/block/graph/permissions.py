"""Permissions: what users of a node do to it, and what they let others do.

See block.c: bdrv_default_perms(); include/block/block-common.h: BLK_PERM_ALL.
"""

from __future__ import annotations

CONSISTENT_READ = 1
WRITE = 2
WRITE_UNCHANGED = 4
RESIZE = 8
ALL = 15

#: in the order of their bits, as texts name them and as the debug command does
NAMES = ("consistent read", "write", "write unchanged", "resize")
QAPI_NAMES = ("consistent-read", "write", "write-unchanged", "resize")

#: what a child is to its parent
DATA, METADATA, FILTERED, COW, PRIMARY = "data", "metadata", "filtered", "cow", "primary"
IMAGE = frozenset({DATA, METADATA, PRIMARY})


def names_of(bits: int) -> str:
    """Permissions as they stand in texts."""
    return ", ".join(name for bit, name in enumerate(NAMES) if bits >> bit & 1)


def default_child(
    role: frozenset[str], perm: int, shared: int, *, writable: bool, inactive: bool
) -> tuple[int, int]:
    """What a node wants of and leaves to others at a child, given what its users want of it.

    `role`: what the child is to it.
    """
    if FILTERED in role:
        return perm, shared
    if COW in role:
        given = WRITE | RESIZE if shared & WRITE or inactive else 0
        return perm & CONSISTENT_READ, given | CONSISTENT_READ | WRITE_UNCHANGED
    if METADATA in role:
        if writable:
            perm |= WRITE | RESIZE
        perm |= CONSISTENT_READ
        shared &= ~(WRITE | RESIZE)
    if DATA in role:
        shared &= ~RESIZE
        if perm & WRITE_UNCHANGED:
            perm |= WRITE
        if perm & WRITE:
            perm |= RESIZE
    if inactive:
        shared |= WRITE | RESIZE
    return perm, shared
