"""The command `fakeqemu` that writes down what holds its loop: FAKEQEMU_FUZZ_EMULATOR for `holds`.

Each callback of the loop that takes more than FAKEQEMU_HOLD seconds of its thread's processor
time becomes a line of JSON in the file `holds`: seconds, the command last begun, the callback.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from fakeqemu.cli import main  # noqa: E402
from fakeqemu.journal import Journal, JournalEntry  # noqa: E402


def watch(limit: float) -> None:
    """Have every later callback timed."""
    run = asyncio.events.Handle._run
    note = Journal.note
    file = Path("holds").open("a", buffering=1)  # noqa: SIM115 - as long as the process
    command = ""

    def noted(self: Journal, kind: str, name: str, **data: Any) -> JournalEntry:
        nonlocal command
        if kind == "command":
            line = data.get("arguments", {}).get("command-line", "")
            command = f"{name} {str(line)[:60]}".strip()
        return note(self, kind, name, **data)

    def timed(self: asyncio.Handle) -> None:
        what = repr(self)[:300]
        began = time.thread_time()
        run(self)
        spent = time.thread_time() - began
        if spent > limit:
            file.write(json.dumps([spent, command, what]) + "\n")

    Journal.note = noted  # type: ignore[method-assign]
    asyncio.events.Handle._run = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(float(os.environ.get("FAKEQEMU_HOLD", "0.05")))
    sys.exit(main())
