"""The synchronous API: the same handle, its loop in a thread, its methods without await.

The methods are made from those of `FakeQemu` (`generated.SyncMethods`, by
scripts/make_testing_api); what starts, stops and owns the thread is here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Unpack

from fakeqemu.testing.faults.api import FaultsApi
from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.machine.generated import GuestApi, SyncMethods
from fakeqemu.testing.machine.pair import pair
from fakeqemu.testing.machine.settings import HandleSettings, check_settings
from fakeqemu.testing.names import nearest
from fakeqemu.testing.runners.thread import LoopThread

T = TypeVar("T")
#: how much longer than the machine's own deadline its thread may take, in seconds
_GRACE = 5.0


class SyncFakeQemu(SyncMethods):
    """One machine for tests that are not asynchronous. Use it with `with`, or `start`, `stop`.

    `runner` is "thread" (the machine itself is in the thread), "process" or "fork"; all other
    settings are those of `FakeQemu`. `handle` is one to use, in place of options and settings.
    """

    def __init__(
        self,
        *options: str,
        runner: Literal["thread", "process", "fork"] = "thread",
        thread: LoopThread | None = None,
        handle: FakeQemu | None = None,
        **settings: Unpack[HandleSettings],
    ) -> None:
        check_settings(dict(settings))
        settings.setdefault("client", False)
        if str(runner) == "loop":
            raise ValueError("without await a machine runs in a thread, a process or a fork")
        self.runner = runner
        self._handle = handle or FakeQemu(*options, runner=_inner(runner), **settings)
        #: where its handle lives, alone or with others
        self._thread = thread
        self._running = False
        #: what it is and what reports call it, as in `FakeQemu`
        self.profile = self._handle.profile
        self.name = self._handle.name
        self.seed = self._handle.seed
        self.strict = self._handle.strict
        self.verifier = self._handle.verifier
        #: what goes wrong with this machine
        self.faults = FaultsApi(self._call, self.verifier)
        #: what the guest does by itself, and how it reacts
        self.guest = GuestApi(self._call)
        #: answers in place of the model's
        self.stubs = self._handle.stubs
        self.stubs.send = self._call

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in ("vm", "parameters", "client"):
                raise AttributeError(
                    f"{name} lives in the thread of the machine's loop: ask it with qmp(...), or "
                    f"connect to socket_path ({name} is there with `async with fakeqemu(...)`)"
                )
            near = nearest(name, dir(type(self)))
            hint = f"; did you mean {near!r}?" if near else ""
            raise AttributeError(f"a machine has no {name!r}{hint}")

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

    async def __aenter__(self) -> NoReturn:
        raise TypeError("this machine is not asynchronous: `with`, or `fakeqemu(...)` to await it")

    async def __aexit__(self, *_: object) -> None:
        """Never reached."""

    def __await__(self) -> NoReturn:
        raise TypeError("this machine is not asynchronous: call start(), or `fakeqemu(...)`")

    def __repr__(self) -> str:
        return repr(self._handle).replace("FakeQemu", type(self).__name__, 1)

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

    # -- inside ------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None or not self._running:
            work.close()
            raise RuntimeError("the machine is not started: use `with` or start() first")
        return self._thread.run(work, self._handle.deadline + _GRACE)

    def _in_thread(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return self._run(work())

    def _call(self, verb: str, /, **parameters: Any) -> Any:
        return self._in_thread(lambda: self._handle._call(verb, **parameters))

    def _started(self) -> None:
        self._running = True
        self._handle.journal.waiter = self.wait_for

    def _end_thread(self) -> None:
        if self._running and self._thread is not None:
            self._running = False
            self._thread.release()


def _inner(runner: str) -> Any:
    """The way of a handle whose loop is in a thread already."""
    return "loop" if runner == "thread" else runner
