"""An event loop in a thread, for tests that are not asynchronous and machines beside the test's.

The thread is a daemon: a test that forgets to stop its machine does not keep pytest alive.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fakeqemu.journal import Journal
from fakeqemu.testing.runners.base import InProcessRunner, Spec

T = TypeVar("T")


class LoopThread:
    """A loop that runs until it is stopped."""

    def __init__(self, name: str = "fakeqemu") -> None:
        self.loop = asyncio.new_event_loop()
        #: how many still use it; the last one stops it
        self.users = 1
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have `work` done there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T], deadline: float | None = None) -> T:
        """Have `work` done there and wait for it. Raises TimeoutError."""
        future = self.submit(work)
        try:
            return future.result(deadline)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise  # the work's own
            future.cancel()
            raise TimeoutError(f"the machine's thread did not answer in {deadline} s") from None

    def call(self, function: Callable[[], T], deadline: float | None = None) -> T:
        """Call `function` there."""

        async def work() -> T:
            return function()

        return self.run(work(), deadline)

    def release(self) -> None:
        """One user less."""
        self.users -= 1
        if self.users <= 0:
            self.stop()

    def stop(self) -> None:
        """End the loop and the thread."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def stopped(self) -> bool:
        """Whether it has ended."""
        return self.loop.is_closed()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        with contextlib.suppress(RuntimeError):
            pending = asyncio.all_tasks(self.loop)
            for task in pending:
                task.cancel()
            if pending:
                self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())


class ThreadRunner:
    """A `InProcessRunner` in a thread of its own."""

    def __init__(self, spec: Spec, inner: InProcessRunner | None = None) -> None:
        self._spec = spec
        self._thread = LoopThread()
        self._inner = inner or InProcessRunner(spec)
        self.stderr = self._inner.stderr

    @property
    def journal(self) -> Journal:
        """The machine's own: entries are added by its thread."""
        return self._inner.journal

    @property
    def client_side(self) -> socket.socket | None:
        """The client's end of a monitor of its own."""
        return self._inner.client_side

    async def start(self) -> None:
        """Boot. Raises StartupError."""
        await asyncio.wrap_future(self._thread.submit(self._inner.start()))

    async def ask(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb and wait for what it says."""
        return await asyncio.wrap_future(
            self._thread.submit(self._inner.ask(verb, **parameters))
        )

    def call(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb, blocking."""
        return self._thread.call(
            lambda: self._inner.call(verb, **parameters), self._spec.deadline
        )

    @property
    def exit_code(self) -> int | None:
        """What the machine left with."""
        return self._inner.exit_code

    async def stop(self) -> None:
        """End the machine and the thread."""
        self.stop_now()

    def stop_now(self) -> None:
        """End the machine and the thread."""
        if self._thread.stopped:
            return
        self._thread.run(self._inner.stop(), self._spec.deadline)
        self._thread.stop()
