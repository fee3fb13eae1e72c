"""Members that would change what QEMU does, and that the model refuses instead of ignoring."""

from __future__ import annotations

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError

NODES = (
    "-machine", "none", "-nodefaults", "-display", "none",
    "-blockdev", "null-co,node-name=a,size=4096", "-blockdev", "null-co,node-name=b,size=4096",
)  # fmt: skip


def start(*argv: str) -> Boot:
    profile = Profile.load("10.0")
    boot = Boot.of(parse_command_line(argv, profile), profile, VirtualClock(), NullHost())
    for _ in boot.run():
        pass
    boot.finish()
    return boot


def test_a_display_from_which_the_machine_is_switched_off():
    with pytest.raises(StartupError, match="vnc with websocket"):
        start(*NODES, "-vnc", "127.0.0.1:1,websocket=on")
    start(*NODES, "-vnc", "127.0.0.1:1,websocket=off")
