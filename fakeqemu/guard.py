"""The boundary at which the world calls into a machine: no exception gets past it.

Timers, input of connections, steps of jobs, callbacks of channels: what is called from outside
the model is called through the machine's `Guard`. An exception that nobody expected there is a
bug of ours. It is written to the journal as kind `bug`, its owner (a job, a migration, a
session) decides what fails with it, and everything else goes on. What is not modelled is no bug:
its owner fails in its words.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.qapi.errors import AbortError, InternalError, NotModelledError, QapiError

#: frames that input may take: JSON nests up to 1024 levels, backing chains are long. Much more
#: and callbacks from C code would run out of the usual 8 MiB of stack.
_FRAMES = 5000
#: how an owner fails for a bug: called with the error that its clients see
Failed = Callable[[QapiError], object]


class Guard:
    """One machine's boundary. `abort` ends the process as a signal would."""

    def __init__(self, journal: Journal, abort: Callable[[int], None]) -> None:
        self._journal = journal
        self._abort = abort
        #: called with the journal entry of each bug
        self.listeners: list[Callable[[JournalEntry], None]] = []

    def call(
        self, function: Callable[..., Any], *args: Any, failed: Failed | None = None
    ) -> Any:
        """`function(*args)`; None when it came to grief, after `failed` was called."""
        try:
            return function(*args)
        except AbortError as abort:
            self.abort(abort)
        except Exception as bug:
            error = self._error_of(bug, tells=failed is not None)
            if failed is not None:
                self.call(failed, error)
        return None

    def _error_of(self, raised: Exception, *, tells: bool) -> QapiError:
        """What an owner fails with: what is not modelled is no bug if a client is told of it."""
        if tells and isinstance(raised, NotModelledError):
            self._journal.note("not-modelled", raised.name, desc=raised.desc)
            return raised
        return self.report(raised)

    def attempt(
        self, function: Callable[..., Any], *args: Any
    ) -> tuple[Any, QapiError | None]:
        """A client's request: `function(*args)`, and the error if it is refused or a bug.

        Raises AbortError.
        """
        try:
            return function(*args), None
        except QapiError as error:
            return None, error
        except AbortError:
            raise
        except Exception as bug:
            return None, self.report(bug)

    def bind(
        self, function: Callable[..., Any], failed: Failed | None = None
    ) -> Callable[..., Any]:
        """A callback that runs `function` through `call`."""

        def guarded(*args: Any) -> Any:
            return self.call(function, *args, failed=failed)

        return guarded

    def abort(self, abort: AbortError) -> None:
        """The process ends as QEMU's would on a failed assertion."""
        self._journal.note("abort", str(abort))
        self._abort(abort.status)

    def report(self, bug: BaseException) -> InternalError:
        """Journal an unexpected exception; returns the error for its client."""
        place = _place(bug)
        try:
            import traceback

            trace = "".join(traceback.format_exception(bug))
        except MemoryError:
            trace = place
        entry = self._journal.note("bug", type(bug).__name__, place=place, trace=trace)
        for listener in self.listeners:
            listener(entry)
        return InternalError()


def allow_deep_input() -> None:
    """Let this interpreter follow input as deeply nested as QEMU takes it."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _FRAMES))


def line_of_bug(entry: JournalEntry) -> str:
    """A journal entry of kind `bug` as one line for standard error."""
    return f"fakeqemu: internal error: {entry.name} at {entry.data['place']}"


def describe(bug: BaseException) -> str:
    """The kind of an exception and where it was raised."""
    return f"{type(bug).__name__} at {_place(bug)}"


def _place(bug: BaseException) -> str:
    """Where it was raised: `model/devices.py:12 (create)`, or the like outside the package."""
    innermost = bug.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None:
        return "an unknown place"
    code = innermost.tb_frame.f_code
    path = code.co_filename
    _, package, inner = path.rpartition("/fakeqemu/")
    if package:
        path = inner
    return f"{path}:{innermost.tb_lineno} ({code.co_name})"
