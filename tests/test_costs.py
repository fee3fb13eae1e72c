"""What does not vary of what things cost: calls for a request, bytes for a machine.

Time is measured by scripts/benchmark, modules are held by test_start.py.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.configuration import Configuration
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.qmp.monitor import QmpMonitor

#: may only shrink
MOST_CALLS = 126
MOST_KIB = {"none": 60, "q35": 205}


class Transport:
    """Keeps what was written last."""

    unread = 0
    last = b""

    def write(self, data: bytes) -> None:
        self.last = data

    def set_reading(self, reading: bool) -> None:
        pass


class Client:
    """One on a monitor, without sockets and loop."""

    def __init__(self) -> None:
        configuration = replace(Configuration(), compat_policy={})
        self.vm = Machine(Profile.load("7.2"), configuration, VirtualClock(), Turns())
        self.vm.process.main_loop_running = True
        self.vm.journal.keep_last(100)
        self._chardev = Chardev(ChardevOptions("c", "pipe", {}), self.vm.profile.traits)
        self._transport = self._chardev.transport = Transport()  # type: ignore[assignment]
        self._chardev.connected = True
        QmpMonitor(dispatcher_of(self.vm), self._chardev)
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> Any:
        self._chardev.received(json.dumps({"execute": command}).encode() + b"\r\n")
        return json.loads(self._transport.last)["return"]


class Turns(NullHost):
    """No request of these has to wait for one."""

    def yield_turn(self, call: Any) -> bool:
        raise AssertionError("a request that is alone asked for a turn")


@pytest.mark.parametrize("command", ["query-status", "query-qmp-schema", "query-commands"])
def test_a_request_is_few_calls(command: str) -> None:
    client = Client()
    client.ask(command)
    calls: list[str] = []

    def note(frame: Any, event: str, _arg: Any) -> None:
        if event == "call" and "fakeqemu" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_qualname)

    # what other tests have left is not to be finished meanwhile
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        client.ask(command)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert len(calls) <= MOST_CALLS, calls


@pytest.mark.parametrize("kind", list(MOST_KIB))
def test_a_machine_keeps_few_bytes(kind: str) -> None:
    profile = Profile.load("7.2")
    configuration = parse_command_line(
        ["-machine", kind, "-nodefaults", "-display", "none"], profile
    )

    def boot() -> Machine:
        boot = Boot.of(configuration, profile, VirtualClock(), NullHost())
        for _ in boot.run():
            pass
        return boot.vm

    # what machines of one kind share is there
    boot(), boot(), boot()
    gc.collect()
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        machines = [boot() for _ in range(8)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(machines) / 1024 <= MOST_KIB[kind]
