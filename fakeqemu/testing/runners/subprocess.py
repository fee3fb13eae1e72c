"""A machine in a process of its own, held through a private channel.

The journal is copied as it is written, so what a tester reads needs no asking. Verbs that need
no waiting block for the few microseconds the answer takes; what the machine asks in between (a
stub that is a function) is answered meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fakeqemu import poll
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.profile.options import options_for
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing.clock.timekeeper import ClockError
from fakeqemu.testing.faults.model import LateExit
from fakeqemu.testing.runners.base import Spec
from fakeqemu.testing.runners.errors import from_plain

#: how long a machine that was asked to leave may take, in seconds
_LEAVE = 5.0
#: how often, in seconds, a process is looked at that stays after its end
_LOOK = 0.05


class ChildProcess(Protocol):
    """A child: `subprocess.Popen` and the fork server's children."""

    pid: int

    def poll(self) -> int | None:
        """The exit status, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status."""

    def kill(self) -> None:
        """End it by SIGKILL."""


#: arguments of `fakeqemu`, descriptors to hand over, where standard error goes -> the child
Launch = Callable[[list[str], list[int], int], ChildProcess]


def launch_process(arguments: list[str], fds: list[int], stderr: int) -> ChildProcess:
    """A fresh interpreter."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "fakeqemu", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=fds,
        env={**os.environ, "PYTHONPATH": path},
    )


class ErrorFile:
    """What went to standard error; reads like the StringIO of a machine in this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""

    def getvalue(self) -> str:
        """All of it."""
        with contextlib.suppress(OSError):
            self._text = self._path.read_text()
        return self._text


class SubprocessRunner:
    """In a process that `launch` starts."""

    def __init__(self, spec: Spec, launch: Launch) -> None:
        self.journal = Journal.from_lines(())
        self.stderr = ErrorFile(spec.directory / "stderr")
        self.client_side: socket.socket | None = None
        self.process: ChildProcess | None = None
        self._spec = spec
        self._launch = launch
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = b""
        self._last_id = 0
        self._done: dict[int, dict[str, Any]] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._exit: int | None = None
        #: the process stays for a while after its end (see fault late-exit)
        self._lingers = False
        self._ready: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Boot. Raises StartupError."""
        spec = self._spec
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        passed = [theirs]
        if spec.client:
            self.client_side, monitor = socket.socketpair()
            self.client_side.setblocking(False)
            passed.append(monitor)
        with (spec.directory / "stderr").open("wb") as stderr:
            fds = [each.fileno() for each in passed]
            try:
                self.process = self._launch(self._arguments(fds), fds, stderr.fileno())
            finally:
                for each in passed:
                    each.close()
        self._loop.add_reader(self._sock.fileno(), self._readable)
        await self._ready

    async def ask(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb and wait for what it says."""
        assert self._loop is not None
        number = self._send(verb, parameters)
        if self._sock is None:
            raise ConnectionError(f"the machine ended before it heard {verb!r}")
        future = self._waiting[number] = self._loop.create_future()
        try:
            return self._outcome(await future)
        finally:
            self._waiting.pop(number, None)

    def call(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb, blocking."""
        if verb in ("continue-process", "remove-fault"):
            self._wake()
        number = self._send(verb, parameters)
        self._done[number] = {}
        end = time.monotonic() + self._spec.deadline
        while not (message := self._done[number]):
            if self._sock is None:
                raise ConnectionError(f"the machine ended before it answered {verb!r}")
            left = end - time.monotonic()
            if left <= 0 or not poll.readable(self._sock, left):
                raise TimeoutError(f"no answer to {verb!r} after {self._spec.deadline} s")
            self._readable()
        del self._done[number]
        return self._outcome(message)

    @property
    def exit_code(self) -> int | None:
        """The process's exit status, once the machine has said that it ends or is gone."""
        if self.process is None or (self._exit is None and self._sock is not None):
            return None
        if self._lingers:
            return self.process.poll()
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
            return self.process.wait(_LEAVE)
        return self._exit

    async def stop(self) -> None:
        """End the machine."""
        self.stop_now()

    def stop_now(self) -> None:
        """End the machine: it leaves when the channel ends, or is killed."""
        self._hang_up()
        if self.process is None:
            return
        if self.process.poll() is None:
            self._wake()
            try:
                self.process.wait(_LEAVE)
            except (TimeoutError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait(_LEAVE)
        self.stderr.getvalue()
        close = getattr(self.process, "close", None)
        if close is not None:
            close()

    # -- inside ------------------------------------------------------------------------------

    def _arguments(self, fds: list[int]) -> list[str]:
        spec = self._spec
        if not isinstance(spec.clock, str):
            raise ClockError(
                "a machine in another process has a clock of its own: clock='virtual' or 'real'"
            )
        if spec.before_boot:
            raise ValueError("before_boot needs a machine in this process")
        arguments = ["run", *options_for(spec.profile), "--clock", spec.clock]
        arguments += ["--speed", str(spec.speed)]
        arguments += ["--private-channel", ",".join(map(str, fds))]
        if spec.scenario:
            arguments += ["--scenario", spec.scenario, "--seed", str(spec.seed)]
        if spec.tap_directory:
            arguments += ["--tap-directory", spec.tap_directory]
        if spec.as_posted:
            arguments.append("--as-posted")
        if spec.check:
            arguments.append("--check-replies")
        return [*arguments, "--", *spec.options]

    def _wake(self) -> None:
        """A stopped process reads nothing, so it cannot be asked to continue."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)

    def _send(self, verb: str, parameters: dict[str, Any]) -> int:
        if self._sock is None:
            raise RuntimeError("the machine is not running")
        self._last_id += 1
        line = json.dumps({"id": self._last_id, "verb": verb, "parameters": parameters})
        self._write(line)
        return self._last_id

    def _write(self, line: str) -> None:
        assert self._sock is not None
        data = memoryview(line.encode() + b"\n")
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                poll.writable(self._sock, 1.0)
            except OSError:
                self._hang_up()
                return

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._message(json.loads(line))

    def _message(self, message: dict[str, Any]) -> None:
        listener = self._spec.listener
        if "entry" in message:
            entry = JournalEntry(*message["entry"])
            self.journal.add(entry)
            self._lingers |= (entry.kind, entry.name) == ("fault", LateExit.name)
            listener.entry_added(entry)
        elif "event" in message:
            listener.event_sent(Event(*message["event"]))
        elif "id" in message:
            self._answered(message)
        elif "call" in message:
            self._answer_call(message)
        elif "violation" in message:
            listener.violation_found(SchemaViolation(message["violation"]))
        elif "ready" in message:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif "exit" in message:
            self._exit = message["exit"]
            listener.machine_ended()

    def _answered(self, message: dict[str, Any]) -> None:
        number = message["id"]
        if number in self._done:
            self._done[number] = message
        elif (future := self._waiting.get(number)) is not None and not future.done():
            future.set_result(message)

    def _answer_call(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"called": message["call"]}
        try:
            answer["value"] = self._spec.listener.answer_call(
                message["stub"], message["arguments"], message["value"]
            )
        except QapiError as error:
            answer["error"] = [error.error_class, error.desc]
        except Exception as error:
            answer["error"] = ["GenericError", f"the stub failed: {error!r}"]
        self._write(json.dumps(answer))

    def _outcome(self, message: dict[str, Any]) -> Any:
        if "error" not in message:
            return message["value"]
        raise from_plain(message["error"])

    def _hang_up(self) -> None:
        if self._sock is None:
            return
        sock, self._sock = self._sock, None
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(sock.fileno())
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("the machine has ended"))
        sock.close()
        if self._ready is not None and not self._ready.done():
            if self.process is None:
                self._ready.cancel()  # it could not even be launched, and that is told
            else:
                self._ready.set_exception(self._start_error())
        elif self._loop is not None and not self._loop.is_closed():
            self._spec.listener.machine_ended()
            self._look_for_end()

    def _look_for_end(self) -> None:
        """A process that lingers says nothing when it goes."""
        if not self._lingers or self._loop is None or self._loop.is_closed():
            return
        if self.process is not None and self.process.poll() is None:
            self._loop.call_later(_LOOK, self._look_for_end)
        else:
            self._spec.listener.machine_ended()

    def _start_error(self) -> StartupError:
        """What a machine that ended before it was ready says of it."""
        assert self.process is not None
        code = 1
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
            code = self.process.wait(_LEAVE)
        lines = self.stderr.getvalue().splitlines() or [f"it left with {code}, silently"]
        text = lines[-1].partition(": ")[2] or lines[-1]
        return StartupError(text, code=code)
