"""Damaged migration streams: a machine that waits for one gets it from a file."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fakeqemu.profile import Profile
from fuzzing.campaign import Campaign, Step
from fuzzing.findings import GROWTH, HOLD, Finding, lost, python_text, stderr_text
from fuzzing.machine import BARE, DEADLINE, Client, Gone, Late, Machine
from fuzzing.mutate import changed, changes

_MACHINE = (
    "-machine", "pc", "-m", "16", "-S", *BARE, "-device", "virtio-balloon-pci",
)  # fmt: skip
_STREAMS = 6
_ENDS = ("completed", "failed")
#: where a stream describes itself: magic, configuration, first sections
_HEAD = 700


class Streams(Campaign):
    """Each step is a stream: what is changed in a good one."""

    name = "streams"

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self._good = b""
        arguments = Profile.load(profile).schema.commands["migrate-incoming"].arg_type
        #: whether a stream that cannot be loaded need not end the process
        self._stays = any(member.name == "exit-on-error" for member in arguments.members)

    @property
    def good(self) -> bytes:
        """A stream that a machine of the profile has sent."""
        if not self._good:
            with Machine(self.profile, _MACHINE, qmp=1, forked=True) as machine:
                client = machine.client()
                client.ask("migrate", {"uri": self._uri(outgoing=True)})
                if (status := _wait(client)) != "completed":
                    raise RuntimeError(f"no stream to begin with: {status}")
                client.ask("quit")
                machine.process.wait(DEADLINE)
                self._good = (machine.directory / "stream").read_bytes()
        return self._good

    def _uri(self, *, outgoing: bool) -> str:
        if self.profile == "7.2":
            return "exec:cat > stream" if outgoing else "exec:cat stream"
        return "file:stream"

    def session(self, rng: random.Random) -> list[Step]:
        """Streams, each for a machine of its own."""
        size = len(self.good)
        starts = [(0, _HEAD), (0, size), (0, size), (max(0, size - _HEAD), size)]
        return [changes(rng, size, starts) for _ in range(_STREAMS)]

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """Until one of the streams leads to a finding."""
        for self.reached, step in enumerate(steps):
            if (found := self._one(changed(self.good, step))) is not None:
                return found
        return None

    def _one(self, stream: bytes) -> Finding | None:
        argv = (*_MACHINE, "-incoming", "defer")
        with Machine(self.profile, argv, qmp=1, files={"stream": stream}, forked=True) as machine:
            try:
                client = machine.client()
                memory, busy = machine.memory(), machine.cpu()
                given: dict[str, Any] = {"uri": self._uri(outgoing=False)}
                if self._stays:
                    given["exit-on-error"] = False
                reply = client.ask("migrate-incoming", given)
                status = _wait(client)
                info = client.ask("query-migrate")
            except Gone as error:
                # before 9.1 it ends with a stream that it cannot load
                machine.process.wait(DEADLINE)
                if machine.process.returncode == 1:
                    return stderr_text(machine)
                return lost(machine, error, "stream")
            except Late as error:
                return lost(machine, error, "stream")
            # with a stream that has nothing in it QEMU waits for more, too
            if status not in _ENDS and stream:
                return Finding("no-answer", f"status {status}")
            if (taken := machine.cpu() - busy) > HOLD:
                return Finding("hold", "stream", f"{taken:.1f} s of processor time")
            if machine.memory() - memory > GROWTH:
                return Finding("growth", "stream", f"{machine.memory() >> 20} MiB")
            client.close()
            return stderr_text(machine) or python_text(reply) or python_text(info)

    def simpler(self, step: Step) -> Iterator[Step]:
        """Fewer changes."""
        for index in range(len(step)):
            yield step[:index] + step[index + 1 :]


def _wait(client: Client) -> str:
    """How the migration ends; its status after the deadline."""
    end = time.monotonic() + DEADLINE / 2
    while True:
        status = str(client.ask("query-migrate").get("return", {}).get("status", "none"))
        if status in _ENDS or time.monotonic() > end:
            return status
        time.sleep(0.005)
