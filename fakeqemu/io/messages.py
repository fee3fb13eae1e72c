"""What stands before a message on standard error: the time and the guest, if asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


def prefix(vm: Machine | None) -> str:
    """What -msg and -name put before the program's name."""
    message = vm.configuration.message if vm is not None else None
    if vm is None or message is None:
        return ""
    text = ""
    if message.timestamp:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        text = f"{stamp}.{now % 10**9 // 1000:06}Z "
    if message.guest_name and vm.configuration.name.guest:
        text += f"{vm.configuration.name.guest} "
    return text
