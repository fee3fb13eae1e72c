"""qemu-io's language, as the human monitor runs it on a backend."""

from fakeqemu.model.block.qemu_io import breakpoints, image, reopen, transfers
from fakeqemu.model.block.qemu_io.command import run

#: importing these registers their commands
COMMAND_MODULES = (breakpoints, image, reopen, transfers)

__all__ = ["run"]
