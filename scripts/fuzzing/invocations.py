"""One start of the command `fakeqemu` in a directory of its own, until it has nothing to do."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fuzzing.findings import HOLD, Finding
from fuzzing.machine import DEADLINE, ROOT, limit, program

#: seconds without processor time after which a command that goes on has nothing to do
_IDLE = 0.15
#: and those it may need before, however it does
_BUSY = 2 * HOLD
#: bytes that may be resident
_MEMORY = 1 << 30
_PYTHON = re.compile(
    r"Traceback|internal error|\b[A-Z]\w*(?:Error|Exception)\b|<class '|object at 0x"
)


@contextmanager
def directory(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A directory with these files, gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix="fakeqemu-fuzz-"))
    try:
        for name, data in files.items():
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_bytes(data)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def invoke(words: Sequence[str], cwd: Path) -> Finding | None:
    """Start the command; one that does not end by itself gets SIGTERM when it has nothing to do."""
    what = words[0] if words and words[0].isalpha() else "command"
    errors = cwd / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [*program(), *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=limit,  # noqa: PLW1509 - there are no threads here
            start_new_session=True,
        )
    try:
        memory = _until_idle(process)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            return Finding("no-answer", f"{what}: SIGTERM", errors.read_text(errors="replace"))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = errors.read_text(errors="replace")
    if _PYTHON.search(text):
        last = text.strip().splitlines()[-1]
        return Finding("traceback", re.sub(r"0x[0-9a-f]+|\d+", "N", last)[:120], text[-3000:])
    if process.returncode < 0 and process.returncode != -signal.SIGTERM:
        return Finding("death", f"{what}: exit status {process.returncode}", text[-1500:])
    if memory > _MEMORY:
        return Finding("growth", f"{what}: {memory >> 20} MiB")
    return None


def _until_idle(process: subprocess.Popen[bytes]) -> int:
    """The most memory seen until it has ended, or has had nothing to do for a while."""
    end = time.monotonic() + DEADLINE
    spent, since, memory = -1, time.monotonic(), 0
    while process.poll() is None and time.monotonic() < end:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            break
        used = int(fields[11]) + int(fields[12])
        memory = max(memory, int(fields[21]) * resource.getpagesize())
        waits = fields[0] == "S"
        if used != spent or not waits:
            spent, since = used, time.monotonic()
        elif used and time.monotonic() - since > _IDLE:
            break
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    return memory
