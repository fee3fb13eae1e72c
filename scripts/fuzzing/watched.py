"""The command `fakeqemu` that writes down what holds its loop: for `holds` and `soak`.

Each callback of the loop that takes more than FAKEQEMU_HOLD seconds of its thread's processor
time becomes a line of JSON in the file `holds`, see `Hold`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from fakeqemu.cli import main  # noqa: E402
from fakeqemu.qapi.schema import CommandInfo  # noqa: E402
from fakeqemu.qmp.dispatch import Dispatcher  # noqa: E402
from fakeqemu.qmp.session import QmpSession  # noqa: E402


class Hold(NamedTuple):
    """One long callback."""

    #: seconds of processor time
    spent: float
    #: seconds by the clock
    wall: float
    #: what it did, in order: `COMMAND`, `reply to COMMAND` (a part of one that is encoded in
    #: several turns), `input`; `-` if none of these
    what: str
    #: seconds of `spent` in which garbage was collected
    collecting: float
    #: the callback as Python writes it
    callback: str

    def __str__(self) -> str:
        collecting = f", {1000 * self.collecting:.1f} in collecting garbage"
        return (
            f"{1000 * self.spent:.1f} ms CPU, {1000 * self.wall:.1f} ms"
            f"{collecting if self.collecting else ''}: {self.what}  {self.callback[:120]}"
        )


def holds_in(path: Path, start: int = 0) -> list[Hold]:
    """What a process has written from byte `start` on, the longest first."""
    lines = path.read_bytes()[start:].splitlines()
    return sorted((Hold(*json.loads(line)) for line in lines), reverse=True)


class _Watch:
    """The callback under way, and where those go that are too long."""

    def __init__(self, limit: float, file: IO[str]) -> None:
        self._limit = limit
        self._file = file
        self._did: list[str] = []
        self._collecting = 0.0
        self._collection_began = 0.0

    def did(self, what: str) -> None:
        """The callback does something; the same again counts as one."""
        if what not in self._did[-1:]:
            self._did.append(what)

    def collection(self, phase: str, _info: dict[str, int]) -> None:
        """Called by the collector of garbage when it starts and stops."""
        if phase == "start":
            self._collection_began = time.thread_time()
        else:
            self._collecting += time.thread_time() - self._collection_began

    def run(self, handle: asyncio.Handle, call: Callable[[asyncio.Handle], None]) -> None:
        """Run a callback by `call`."""
        what = repr(handle)[:300]
        self._did, self._collecting = [], 0.0
        wall, began = time.monotonic(), time.thread_time()
        call(handle)
        spent = time.thread_time() - began
        if spent > self._limit:
            did = ", ".join(self._did) or "-"
            hold = Hold(spent, time.monotonic() - wall, did, self._collecting, what)
            self._file.write(json.dumps(hold) + "\n")


def watch(limit: float) -> None:
    """Have every later callback timed."""
    run, perform = asyncio.events.Handle._run, Dispatcher._perform
    read, encode = QmpSession.read, QmpSession.encode
    file = Path("holds").open("a", buffering=1)  # noqa: SIM115 - as long as the process
    seen = _Watch(limit, file)

    def performing(
        self: Dispatcher, info: CommandInfo, checked: dict[str, Any], monitor: Any
    ) -> Any:
        seen.did(f"{info.name} {str(checked.get('command-line', ''))[:60]}".strip())
        return perform(self, info, checked, monitor)

    def reading(self: QmpSession) -> Any:
        seen.did("input")
        return read(self)

    def encoding(self: QmpSession) -> Any:
        seen.did(f"reply to {self._unsent[0].command}")
        return encode(self)

    def timed(self: asyncio.Handle) -> None:
        seen.run(self, run)

    Dispatcher._perform = performing  # type: ignore[method-assign]
    QmpSession.read = reading  # type: ignore[method-assign]
    QmpSession.encode = encoding  # type: ignore[method-assign]
    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    gc.callbacks.append(seen.collection)


if __name__ == "__main__":
    watch(float(os.environ.get("FAKEQEMU_HOLD", "0.05")))
    sys.exit(main())
