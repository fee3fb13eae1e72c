"""Children, and orphans: who is alive, who is ours, and who reaps whom.

Output goes to files, so nothing can block on a pipe. Domains are daemonized by libvirtd; its
helpers become our children because this process is a subreaper: libvirt polls `kill(pid, 0)`
and would wait long for a zombie which a slow init leaves lying about.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from accept.errors import Failed

PR_SET_CHILD_SUBREAPER = 36

_lock = threading.RLock()
#: children made by Child, which waits for them itself
_own: set[int] = set()


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def become_subreaper() -> bool:
    """Let the orphans of our children become our children."""
    return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def children() -> list[tuple[int, str]]:
    """(pid, state letter) of every child of this process, zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            rest = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(rest[1]) == os.getpid():
            found.append((int(entry.name), rest[0].decode()))
    return found


def orphans() -> list[int]:
    """Living children which we did not start: what libvirtd started and left."""
    return [pid for pid, state in children() if pid not in _own and state != "Z"]


def command_line(pid: int) -> str:
    """The words of a process, as far as it still has any."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace")
    except OSError:
        return ""


def reap_orphans(stop: threading.Event) -> None:
    """Until `stop`: take away orphans that ended (the body of a thread)."""
    while not stop.wait(0.02):
        with _lock:
            for pid, state in children():
                if pid not in _own and state == "Z":
                    try:
                        os.waitpid(pid, os.WNOHANG)
                    except OSError:
                        continue


def end_orphans() -> None:
    """Ask every orphan to end, then make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in orphans():
            send(pid, number)
        for _ in range(30):
            if not orphans():
                return
            threading.Event().wait(0.1)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except OSError:
        return


class Child:
    """One process of ours in a session of its own, its output in files."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        out: Path | None = None,
        err: Path | None = None,
        user: int | None = None,
    ) -> None:
        self.argv = list(argv)
        self.out = self._file(out)
        self.err = self._file(err)
        with _lock:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=self.out,
                stderr=self.err,
                env=dict(env),
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
            _own.add(self.popen.pid)
        self.pid = self.popen.pid

    @staticmethod
    def _file(path: Path | None) -> IO[bytes]:
        return path.open("wb+") if path else tempfile.TemporaryFile()

    def poll(self) -> int | None:
        return self.popen.poll()

    def wait(self, timeout: float) -> int | None:
        """The exit code, or None if it still runs after `timeout` seconds."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """SIGTERM, and SIGKILL to one that does not mind."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.poll() is not None:
                break
            send(self.pid, number)
            self.wait(3)
        self.out.close()
        self.err.close()

    def output(self) -> str:
        return self._text(self.out)

    def errors(self) -> str:
        return self._text(self.err)

    @staticmethod
    def _text(file: IO[bytes]) -> str:
        file.flush()
        file.seek(0)
        return file.read().decode(errors="replace")


def run(argv: Sequence[str], timeout: float, env: Mapping[str, str]) -> Outcome:
    """Run a command to its end."""
    child = Child(argv, env=env)
    try:
        code = child.wait(timeout)
        if code is None:
            raise Failed(f"timeout after {timeout:.0f}s: {shlex.join(argv)[:200]}")
        return Outcome(code, child.output(), child.errors())
    finally:
        child.end()
