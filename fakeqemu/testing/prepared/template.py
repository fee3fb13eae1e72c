"""A machine that is booted and configured once; each test gets a copy of it.

    base = Template("-machine", "q35", "-m", "1G", profile="10.0", prepare=configure)

    async with base() as vm: ...      # a copy
    with base.sync() as vm: ...       # for a test that is not asynchronous

A copy has the journal, clock, timers, jobs, block nodes, objects, faults and stubs of the machine
as `prepare` left it, at sockets and in a directory of its own. It shares nothing with others:
image files are read and what is written stays with the copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Never, NoReturn, Unpack

from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.machine.settings import (
    CopySettings,
    SyncCopySettings,
    TemplateSettings,
    check_options,
    check_settings,
    check_values,
)
from fakeqemu.testing.machine.sync import SyncFakeQemu
from fakeqemu.testing.machine.verification import StrictnessError
from fakeqemu.testing.prepared.runner import CopyRunner, PreparedState
from fakeqemu.testing.prepared.snapshot import NotCopyableError
from fakeqemu.testing.runners.base import InProcessRunner

if TYPE_CHECKING:
    from fakeqemu.testing.runners.base import Runner, Spec

#: configures a machine: a function of a SyncFakeQemu, or an `async` one of a FakeQemu
Prepare = Callable[[Any], Any]


#: for whoever takes the template for a machine
USE_A_COPY = "a template makes copies: `async with template() as vm`, `with template.sync() as vm`"


def check_copy(options: Sequence[Any], settings: Any, known: Any = CopySettings) -> None:
    """Whether a copy can be told that. Raises TypeError, ValueError, UnknownNameError."""
    if options:
        raise TypeError("a copy has the options of its template: give them to that")
    check_settings(dict(settings), known, "setting of a copy (all others are the template's)")
    if settings.get("runner", "loop") not in ("loop", "thread"):
        raise ValueError(
            "a copy is made of a machine in this process: runner='loop' or 'thread', not "
            f"{settings['runner']!r}"
        )


class Template:
    """Copies of one prepared machine. It boots when the first copy starts.

    `options` and settings are those of `FakeQemu`. `prepare` gets the running machine: a function
    gets it as `with fakeqemu.sync(...)` gives it, a coroutine function as `async with
    fakeqemu(...)` does. What goes on by itself goes by a virtual clock meanwhile.
    """

    def __init__(
        self, *options: str, prepare: Prepare | None = None, **settings: Unpack[TemplateSettings]
    ) -> None:
        given: dict[str, Any] = dict(settings)
        check_settings(given, TemplateSettings, "setting of a template")
        check_values(given)  # a misspelt value would only show when the first copy starts
        options = tuple(check_options(options))
        if prepare is not None and not callable(prepare):
            raise TypeError(f"prepare is a function of the machine, not {prepare!r}")
        if not isinstance(given.get("socket", True), bool):
            raise ValueError("copies cannot have one socket: leave it out and use socket_path")
        self._options = options
        self._settings = given
        self._prepare = prepare
        self._original: FakeQemu | None = None
        self._state: PreparedState | None = None
        self._failure: Exception | None = None

    def __call__(self, *options: Never, **settings: Unpack[CopySettings]) -> FakeQemu:
        """A copy, not started yet: `async with template() as vm`. It has no options of its own."""
        check_copy(options, settings)
        return self._handle(dict(settings))

    def __enter__(self) -> NoReturn:
        raise TypeError(USE_A_COPY)

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    async def __aenter__(self) -> NoReturn:
        raise TypeError(USE_A_COPY)

    async def __aexit__(self, *_: object) -> None:
        """Never reached."""

    def sync(self, *options: Never, **settings: Unpack[SyncCopySettings]) -> SyncFakeQemu:
        """A copy for a test that is not asynchronous: `with template.sync() as vm`."""
        check_copy(options, settings, SyncCopySettings)
        return SyncFakeQemu(handle=self._handle(dict(settings)))

    def prepared(self) -> tuple[PreparedState, FakeQemu]:
        """The machine that copies are made of, and the handle it was prepared with.

        Raises StartupError, NotCopyableError, what `prepare` raises.
        """
        if self._failure is not None:
            raise self._failure
        if self._state is None:
            try:
                self._make()
            except Exception as error:
                self._failure = error
                raise
        assert self._state is not None and self._original is not None
        return self._state, self._original

    def close(self) -> None:
        """Make no more copies; those there are go on."""
        state, self._state = self._state, None
        if state is not None:
            state.close()
            self._failure = RuntimeError("the template is closed")

    def __repr__(self) -> str:
        state = "not booted yet" if self._state is None else f"at {self._state.now / 1e9:g} s"
        return f"<Template {' '.join(self._options)}: {state}>"

    def _handle(self, settings: dict[str, Any]) -> FakeQemu:
        handle = _Copy(*self._options, **{"client": False, **self._settings, **settings})
        handle.template, handle.seed_given = self, settings.get("seed") is not None
        return handle

    def _make(self) -> None:
        settings = {**self._settings, "name": "template", "clock": "virtual", "strict": False}
        with SyncFakeQemu(*self._options, **settings) as machine:
            if inspect.iscoroutinefunction(self._prepare):
                machine._run(self._prepare(machine._handle))
            elif self._prepare is not None:
                self._prepare(machine)
            strict = self._settings.get("strict", False)
            if (report := machine.complaints(unmet=False, bugs_only=not strict)) is not None:
                raise StrictnessError(report)
            machine._in_thread(lambda: self._take(machine._handle))
            self._original = machine._handle

    def _take(self, handle: FakeQemu) -> None:
        assert isinstance(handle._runner, InProcessRunner)
        try:
            self._state = PreparedState(handle._runner, str(handle.directory))
        except NotCopyableError as error:
            raise NotCopyableError(f"the prepared machine cannot be copied: {error}") from error


class _Copy(FakeQemu):
    """The handle of a copy."""

    template: Template
    seed_given: bool

    def _make_runner(self, spec: Spec) -> Runner:
        state, original = self.template.prepared()
        self.verifier.continue_from(original.verifier)
        self.stubs.continue_from(original.stubs)
        self._waiter.events += original.events
        self._seen = {event.name: len(original.events) for event in original.events}
        if self.runner == "loop":
            return CopyRunner(spec, state)
        from fakeqemu.testing.runners.thread import ThreadRunner

        return ThreadRunner(spec, CopyRunner(spec, state))

    def _configure(self) -> None:
        if self.seed_given:
            self._call("set-seed", seed=self.seed)

