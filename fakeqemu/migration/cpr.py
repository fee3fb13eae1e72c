"""CPR: handing a machine to another process on the same host, memory and descriptors included.

Guest memory is shared, not sent: the new process maps the descriptors that the old one saved. They
are sent before the migration stream, on the cpr channel (cpr-transfer) or through exec (cpr-exec).
So all memory must be mappable by another process; memory that is not is a blocker of these modes.

See migration/cpr.c: cpr_save_fd(), cpr_find_fd() and cpr_state_save(); migration/migration.c:
qmp_migrate().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.guest_memory import PAGE
from fakeqemu.model.boards.ramblocks import RamBlock, backend_blocks, blocks_of, board_blocks
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fakeqemu.migration.channels.address import Address
    from fakeqemu.migration.cpr_state import CprReader
    from fakeqemu.model.host import CprLink
    from fakeqemu.model.machine import Machine

TRANSFER, EXEC = "cpr-transfer", "cpr-exec"

#: modes in which memory stays where it is
SHARING = frozenset({TRANSFER, EXEC})

_NOT_SHARED = (
    "Memory region {} is not compatible with CPR. share=on is required for memory-backend"
    " objects, and aux-ram-share=on is required."
)


# -- blockers --------------------------------------------------------------------------------


def faults(vm: Machine, mode: str) -> tuple[list[str], list[str]]:
    """Blockers of `mode` by the guest's memory, in order of the memory's creation.

    In two parts: of what the board has, and of all that came later.
    """
    if mode != TRANSFER:
        return [], []
    first = board_blocks(vm.state, vm.numa)
    rest = blocks_of(vm.state, vm.numa)[len(first) :]
    return _complaints(first), _complaints(rest)


def _complaints(blocks: Sequence[RamBlock]) -> list[str]:
    return [_NOT_SHARED.format(block.region) for block in blocks if not block.shared]


def check_channel(mode: str, channel: Address | None) -> None:
    """Raise QapiError if `migrate` lacks the cpr channel that `mode` requires."""
    if mode == TRANSFER and channel is None:
        raise QapiError("missing 'cpr' migration channel")


# -- the old process -----------------------------------------------------------------------------


def send_state(
    vm: Machine, channel: Address | None, go_on: Callable[[], None]
) -> CprLink:
    """Send the state on the cpr channel; `go_on` is called when the new process listens or closed.

    Raises QapiError if the channel cannot be connected.
    """
    from fakeqemu.migration.cpr_state import encode

    assert channel is not None
    if channel["transport"] != "socket" or channel["type"] != "unix":
        raise QapiError("bad cpr channel address; must be unix")
    _save_memory(vm)
    pieces = encode(vm.saved_fds, vm.profile.traits, numbers=False)
    vm.journal.note("cpr", "sent", names=[saved.name for saved in vm.saved_fds])
    return vm.host.send_cpr_state(channel, pieces, go_on)


def execute(vm: Machine, command: list[str]) -> None:
    """Execute `command` in place of this process.

    Raises QapiError if that fails; else no return.
    """
    from fakeqemu.migration.cpr_state import encode

    fill_memory(vm)
    pieces = encode(vm.saved_fds, vm.profile.traits, numbers=True)
    vm.journal.note("cpr", "exec", command=command, names=[s.name for s in vm.saved_fds])
    state = b"".join(data for data, _ in pieces)
    vm.host.replace_process(command, state, [saved.fd for saved in vm.saved_fds])


def _save_memory(vm: Machine) -> None:
    """Save the memory's descriptors. Real QEMU saves them at start, which no client can observe."""
    for block in blocks_of(vm.state, vm.numa):
        if block.by_descriptor and vm.saved_fds.find(block.name) is None:
            vm.saved_fds.save(block.name, vm.host.create_memory(block.region, block.reserved))


def fill_memory(vm: Machine) -> None:
    """Write the stopped guest's pages into the shared memory."""
    _save_memory(vm)
    for block, fd in _saved_blocks(vm):
        pages = vm.guest_memory.pages(block.name)
        for offset, data in vm.host.read_memory(fd):
            # zero the pages of an earlier attempt
            for at in range(offset, offset + len(data), PAGE):
                if at // PAGE not in pages:
                    vm.host.write_memory(fd, at, bytes(PAGE))
        for number, page in pages.items():
            vm.host.write_memory(fd, number * PAGE, page)


def _saved_blocks(vm: Machine) -> Iterator[tuple[RamBlock, int]]:
    for block in blocks_of(vm.state, vm.numa):
        fd = vm.saved_fds.find(block.name) if block.by_descriptor else None
        if fd is not None:
            yield block, fd


# -- the new process -----------------------------------------------------------------------------


def incoming_reader(vm: Machine, channel: Address) -> CprReader:
    """A reader of the state from the command line's cpr channel. Raises QapiError."""
    from fakeqemu.migration.cpr_state import CprReader

    kinds = ("unix", "fd") if vm.profile.traits.cpr_channel_by_fd else ("unix",)
    if channel["transport"] != "socket" or channel["type"] not in kinds:
        raise QapiError("bad cpr channel socket type; must be unix")
    return CprReader(vm.profile.traits, numbers=False)


def take_over_exec(vm: Machine, state: bytes) -> None:
    """Load the state that the process before exec has left in a file. Raises QapiError."""
    from fakeqemu.migration.cpr_state import CprReader

    reader = CprReader(vm.profile.traits, numbers=True)
    found = reader.feed(state)
    saved = found if found is not None else reader.feed_eof()
    if any(each.fd < 0 for each in saved):
        raise QapiError("a descriptor left by exec is below zero")
    keep(vm, saved)


def keep(vm: Machine, saved: Sequence[Any]) -> None:
    """Adopt the old process's descriptors, newest first."""
    for each in reversed(saved):
        vm.saved_fds.save(each.name, each.fd, each.id)
    vm.journal.note("cpr", "received", names=[each.name for each in saved])


def take_memory(vm: Machine) -> None:
    """Load the guest's pages from the shared memory."""
    for block, fd in _saved_blocks(vm):
        for offset, data in vm.host.read_memory(fd):
            for at in range(0, len(data), PAGE):
                if any(page := data[at : at + PAGE]):
                    vm.guest_memory.store(block.name, offset + at, page)


def check_memory(vm: Machine) -> None:
    """Raise QapiError unless a passed memory descriptor is large enough for its RAM block."""
    for block in backend_blocks(vm.state, vm.numa):
        fd = vm.saved_fds.find(block.name) if block.by_descriptor else None
        size = vm.host.fd_size(fd) if fd is not None else None
        if size is not None and size < block.size:
            raise QapiError(
                f"{block.name} backing store size {size:#x} is too small for"
                f" 'size' option {block.size:#x} plus 'offset' option 0x0"
            )


def listening(vm: Machine) -> None:
    """Close the cpr channel: the main channel is listening, so the old process may connect."""
    channel, vm.cpr_channel = vm.cpr_channel, None
    if channel is not None:
        channel.close()
