"""Damaged qcow2 images: opened, read, written, snapshotted, resized, closed again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fuzzing.campaign import Campaign, Step
from fuzzing.configs import CONFIGS
from fuzzing.findings import GROWTH, HOLD, Finding, lost, python_text, stderr_text
from fuzzing.machine import DEADLINE, Client, Gone, Late, Machine
from fuzzing.mutate import changed, changes

_CLUSTER = 4096
_SIZE = 2 << 20
_IMAGES = 40
_NAME = "x.qcow2"


def _qemu_io(node: str, line: str) -> tuple[str, Any]:
    return "human-monitor-command", {"command-line": f'qemu-io {node} "{line}"'}


_OPEN = {
    "driver": "qcow2", "node-name": "x", "discard": "unmap",
    "file": {"driver": "file", "filename": _NAME},
}  # fmt: skip
#: what is done with every image
_USE: list[tuple[str, Any]] = [
    ("blockdev-add", _OPEN),
    ("query-named-block-nodes", None),
    _qemu_io("x", "read 0 2M"),
    _qemu_io("x", "write -P 3 0 128k"),
    _qemu_io("x", "write -z 1M 64k"),
    _qemu_io("x", "discard 0 64k"),
    ("block-dirty-bitmap-add", {"node": "x", "name": "nb", "persistent": True}),
    ("x-debug-block-dirty-bitmap-sha256", {"node": "x", "name": "b0"}),
    ("blockdev-snapshot-internal-sync", {"device": "x", "name": "n1"}),
    ("blockdev-snapshot-delete-internal-sync", {"device": "x", "name": "s1"}),
    ("block_resize", {"node-name": "x", "size": 4 << 20}),
    ("blockdev-del", {"node-name": "x"}),
]


class Images(Campaign):
    """Each step is an image: what is changed in a good one."""

    name = "images"

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self._good = b""

    @property
    def good(self) -> bytes:
        """An image with data, a snapshot and a bitmap, as the machine itself makes it."""
        if not self._good:
            self._good = _make(self.profile)
        return self._good

    def session(self, rng: random.Random) -> list[Step]:
        """Images one after the other."""
        size = len(self.good)
        starts = [(0, 112), (0, 112), (112, 600), (_CLUSTER, 12 * _CLUSTER), (0, size)]
        return [changes(rng, size, starts) for _ in range(_IMAGES)]

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """All images on one machine."""
        with Machine(self.profile, CONFIGS["none"], qmp=1, forked=True) as machine:
            try:
                client = machine.client()
            except (Gone, Late) as error:
                return lost(machine, error, "start")
            memory = machine.memory()
            for self.reached, step in enumerate(steps):
                (machine.directory / _NAME).write_bytes(changed(self.good, step))
                if (found := _use(machine, client)) is not None:
                    return found
                if machine.memory() - memory > GROWTH:
                    return Finding("growth", "images", f"{machine.memory() >> 20} MiB")
            client.close()
            return stderr_text(machine)

    def simpler(self, step: Step) -> Iterator[Step]:
        """Fewer changes."""
        for index in range(len(step)):
            yield step[:index] + step[index + 1 :]


def _use(machine: Machine, client: Client) -> Finding | None:
    for command, arguments in _USE:
        busy, seen = machine.cpu(), len(machine.stderr)
        try:
            reply = client.ask(command, arguments)
        except (Gone, Late) as error:
            return lost(machine, error, command)
        if (taken := machine.cpu() - busy) > HOLD:
            return Finding("hold", command, f"{taken:.1f} s of processor time")
        found = stderr_text(machine, seen) or python_text(reply, [command, arguments])
        if found is not None:
            return found
        if command == "blockdev-add" and "error" in reply:
            return None
    return None


def _make(profile: str) -> bytes:
    with Machine(profile, CONFIGS["none"], qmp=1, forked=True) as machine:
        client = machine.client()

        def must(command: str, arguments: Any) -> None:
            reply = client.ask(command, arguments)
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")

        def create(job: str, options: dict[str, Any]) -> None:
            must("blockdev-create", {"job-id": job, "options": options})
            end = time.monotonic() + DEADLINE
            while client.ask("query-jobs")["return"][0]["status"] != "concluded":
                if time.monotonic() > end:
                    raise RuntimeError(f"{job} is not done")
            must("job-dismiss", {"id": job})

        create("f", {"driver": "file", "filename": _NAME, "size": 0})
        must("blockdev-add", {"driver": "file", "node-name": "f", "filename": _NAME})
        qcow2 = {"driver": "qcow2", "file": "f", "size": _SIZE, "cluster-size": _CLUSTER}
        create("q", qcow2)
        must("blockdev-add", {"driver": "qcow2", "node-name": "x", "file": "f"})
        must(*_qemu_io("x", "write -P 5 0 64k"))
        must(*_qemu_io("x", "write -P 6 1M 64k"))
        must("block-dirty-bitmap-add", {"node": "x", "name": "b0", "persistent": True})
        must(*_qemu_io("x", "write -P 7 8k 64k"))
        must("blockdev-del", {"node-name": "x"})
        client.close()
        return (machine.directory / _NAME).read_bytes()
