"""The machine's state as it is kept in a disk image: the model's own, of no use to a real QEMU.

    magic, length of the header (8 bytes, big-endian), header in JSON, pages

The header says which pages follow, by block. Of a state that a real QEMU has written nothing is
understood: memory is zeros then.

See block/io.c: bdrv_save_vmstate() and bdrv_load_vmstate().
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.guest_memory import PAGE

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_MAGIC = b"QEVM-fake"
_LENGTH = 8


def encode(vm: Machine, **facts: Any) -> bytes:
    """The state of `vm`, with further `facts` for those who look into the image."""
    memory = vm.guest_memory
    numbers = {block: sorted(memory.pages(block)) for block in memory.blocks()}
    header = json.dumps({**facts, "pages": numbers}).encode()
    pages = [memory.pages(block)[number] for block, all in numbers.items() for number in all]
    return b"".join([_MAGIC, len(header).to_bytes(_LENGTH, "big"), header, *pages])


def restore(vm: Machine, data: bytes) -> None:
    """Put into memory what is in the state `data`, and nothing else."""
    vm.guest_memory.clear()
    if not data.startswith(_MAGIC):
        vm.journal.note("not-modelled", "the memory in a snapshot of a real QEMU")
        return
    start = len(_MAGIC) + _LENGTH
    at = start + int.from_bytes(data[len(_MAGIC) : start], "big")
    for block, numbers in json.loads(data[start:at])["pages"].items():
        for number in numbers:
            vm.guest_memory.store(block, number * PAGE, data[at : at + PAGE])
            at += PAGE
