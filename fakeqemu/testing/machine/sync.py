"""The synchronous API: the same handle, its loop in a thread, its methods without await."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from fakeqemu.journal import Entry, Journal
from fakeqemu.model.events import Event
from fakeqemu.profile import Profile
from fakeqemu.testing.faults.api import FaultsApi
from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.machine.guest import GuestApi
from fakeqemu.testing.machine.pair import pair
from fakeqemu.testing.machine.stubs import Stubs
from fakeqemu.testing.machine.verification import Verifier
from fakeqemu.testing.runners.thread import LoopThread

#: how much longer than the machine's own deadline its thread may take, in seconds
_GRACE = 5.0


class SyncFakeQemu:
    """One machine for tests that are not asynchronous. Use it with `with`, or `start`, `stop`.

    `runner` is "thread" (the machine itself is in the thread), "process" or "fork"; all other
    settings are those of `FakeQemu`.
    """

    def __init__(
        self,
        *options: str,
        runner: str = "thread",
        thread: LoopThread | None = None,
        **settings: Any,
    ) -> None:
        settings.setdefault("client", False)
        if runner == "loop":
            raise ValueError("without await a machine runs in a thread, a process or a fork")
        self.runner = runner
        self._handle = FakeQemu(*options, runner=_inner(runner), **settings)
        #: where its handle lives, alone or with others
        self._thread = thread
        self._running = False
        #: what goes wrong with this machine
        self.faults = FaultsApi(
            self._handle.profile, self._call, self._handle.seed, self._handle.verifier
        )
        #: what the guest does by itself, and how it reacts
        self.guest = GuestApi(self._call)
        #: answers in place of the model's
        self.stubs: Stubs = self._handle.stubs
        self.stubs.send = self._call

    @staticmethod
    def pair(
        *options: str, runner: str = "thread", make: Any = None, **settings: Any
    ) -> tuple[SyncFakeQemu, SyncFakeQemu]:
        """A source and a destination that waits for it, on one clock; both are started.

        See `fakeqemu.testing.machine.pair.pair`. `make` makes a SyncFakeQemu.
        """
        thread = LoopThread()
        thread.users = 2
        made: list[SyncFakeQemu] = []

        def handle(*each: str, **given: Any) -> FakeQemu:
            machine = (make or SyncFakeQemu)(
                *each, **{**given, "runner": runner, "thread": thread}
            )
            made.append(machine)
            return machine._handle

        try:
            thread.run(pair(handle, *options, runner=_inner(runner), **settings))
        except BaseException:
            thread.stop()
            raise
        for machine in made:
            machine._started()
        source, destination = made
        return source, destination

    def start(self) -> SyncFakeQemu:
        """Boot. Raises StartupError."""
        if not self._running:
            if self._thread is None:
                self._thread = LoopThread()
            try:
                self._thread.run(self._handle.start(), self._handle.deadline + _GRACE)
            except BaseException:
                self._thread.release()
                self._thread = None
                raise
            self._started()
        return self

    def stop(self) -> None:
        """End the machine. Raises SchemaViolation, StrictnessError."""
        if not self._running:
            return
        try:
            self._run(self._handle.stop())
        finally:
            self._end_thread()

    def stop_now(self) -> None:
        """The same, raising nothing."""
        try:
            self.stop()
        except Exception:
            self._end_thread()

    def __enter__(self) -> SyncFakeQemu:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.stop_now()

    # -- as FakeQemu -------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The QEMU version it is."""
        return self._handle.profile

    @property
    def name(self) -> str:
        """What reports and pages call it."""
        return self._handle.name

    @property
    def seed(self) -> int:
        """For whatever is left to chance."""
        return self._handle.seed

    @property
    def strict(self) -> bool:
        """Whether `stop` complains."""
        return self._handle.strict

    @property
    def events(self) -> list[Event]:
        """Every event since the start."""
        return self._handle.events

    @property
    def journal(self) -> Journal:
        """Everything that happened."""
        return self._handle.journal

    @property
    def stderr(self) -> Any:
        """What went to standard error."""
        return self._handle.stderr

    @property
    def boot_log(self) -> list[Entry]:
        """The steps of the start."""
        return self._handle.boot_log

    @property
    def socket_path(self) -> str:
        """Where the QMP socket listens."""
        return self._handle.socket_path

    @property
    def migration_uri(self) -> str:
        """An address of the machine's own to be migrated to."""
        return self._handle.migration_uri

    @property
    def directory(self) -> Path:
        """A directory of the machine's own, gone when it stops."""
        return self._handle.directory

    @property
    def deadline(self) -> float:
        """Seconds that anything here may take."""
        return self._handle.deadline

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        self._handle.deadline = seconds

    @property
    def verifier(self) -> Verifier:
        """Mistakes of the code under test, and what is expected of it."""
        return self._handle.verifier

    @property
    def exit_code(self) -> int | None:
        """What the machine left with."""
        return self._handle.exit_code

    def qmp(
        self, command: str, arguments: dict[str, Any] | None = None, /, **keywords: Any
    ) -> Any:
        """Run a QMP command; its `return`. Raises QmpError."""
        return self._run(self._handle.qmp(command, arguments, **keywords))

    def hmp(self, line: str) -> str:
        """Run a line of the human monitor."""
        return str(self._run(self._handle.hmp(line)))

    def wait_event(self, name: str, **data: Any) -> Event:
        """The first event `name` with these members of `data`."""
        event: Event = self._run(self._handle.wait_event(name, **data))
        return event

    def wait_for(self, kind: str, name: str | None = None, **data: Any) -> Entry:
        """The first entry of the journal of this kind, name and data."""
        entry: Entry = self._run(self._handle.wait_for(kind, name, **data))
        return entry

    def wait_exit(self) -> int:
        """Wait until the machine ends by itself; its exit code."""
        return int(self._run(self._handle.wait_exit()))

    def send_event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Have the machine send an event now."""
        self._in_thread(lambda: self._handle.send_event(name, data))

    def expect(
        self, command: str, arguments: dict[str, Any] | None = None, times: int | None = None
    ) -> None:
        """`command` has to have come by the end."""
        self._handle.expect(command, arguments, times)

    def complaints(self, **what: bool) -> str | None:
        """What is wrong so far; see `FakeQemu.complaints`."""
        return self._handle.complaints(**what)

    def now(self) -> float:
        """Seconds on the machine's clock."""
        return float(self._in_thread(self._handle.now))

    def advance(self, seconds: float) -> None:
        """Move a virtual clock."""
        self._run(self._handle.advance(seconds))

    def jump(self) -> bool:
        """Move a virtual clock to the next timer."""
        return bool(self._run(self._handle.jump()))

    def run_until_idle(self, limit: int = 100_000) -> int:
        """Move a virtual clock until no timer is left."""
        return int(self._run(self._handle.run_until_idle(limit)))

    def run_until(self, kind: str, name: str | None = None, **data: Any) -> Entry:
        """Jump until the journal has an entry of this kind, name and data; that entry."""
        entry: Entry = self._run(self._handle.run_until(kind, name, **data))
        return entry

    # -- inside ------------------------------------------------------------------------------

    def _run(self, work: Any) -> Any:
        if self._thread is None or not self._running:
            work.close()
            raise RuntimeError("the machine is not started: use `with` or start() first")
        return self._thread.run(work, self._handle.deadline + _GRACE)

    def _in_thread(self, function: Callable[[], Any]) -> Any:
        async def work() -> Any:
            return function()

        return self._run(work())

    def _call(self, verb: str, **parameters: Any) -> Any:
        return self._in_thread(lambda: self._handle._call(verb, **parameters))

    def _started(self) -> None:
        self._running = True
        self._handle.journal.waiter = self.wait_for

    def _end_thread(self) -> None:
        if self._running and self._thread is not None:
            self._running = False
            self._thread.release()


def _inner(runner: str) -> str:
    """The way of a handle whose loop is in a thread already."""
    return "loop" if runner == "thread" else runner
