"""Made by scripts/make_testing_api from FakeQemu and the guest's verbs; not edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.model.guest.verbs import VERBS
from fakeqemu.testing.names import UnknownNameError

if TYPE_CHECKING:
    from fakeqemu.testing.machine.fake import FakeQemu
    from fakeqemu.testing.machine.verification import ExpectedStep

T = TypeVar("T")


class GuestApi:
    """The guest in a tester's hands; what it asks for is in `fakeqemu.model.guest.verbs.VERBS`.

    Sizes are bytes or text such as "512M". Each method raises ValueError, and QapiError where
    the machine is not in the state for it.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def _do(self, verb: str, **given: Any) -> None:
        # what is not said stays out, and all has to go over a channel of JSON
        parameters = {
            name: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            for name, value in given.items()
            if value is not None
        }
        self._call("guest", verb=verb, parameters=parameters)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(str(UnknownNameError("guest verb", name.replace("_", "-"), VERBS)))

    def behave(
        self,
        powerdown: str | None = None,
        unplug: str | None = None,
        balloon: str | None = None,
        agent: str | None = None,
        delay: float | None = None,
    ) -> None:
        """React so to what the host asks; `delay` in seconds of time in which the guest runs."""
        self._do(
            "behave", powerdown=powerdown, unplug=unplug, balloon=balloon, agent=agent, delay=delay
        )

    def shutdown(self) -> None:
        """Turn itself off."""
        self._do("shutdown")

    def reset(self) -> None:
        """Reset itself."""
        self._do("reset")

    def panic(self) -> None:
        """Panic."""
        self._do("panic")

    def crash_loaded(self) -> None:
        """Panic with a crash kernel loaded: GUEST_CRASHLOADED."""
        self._do("crash-loaded")

    def suspend(self) -> None:
        """Go to sleep in S3."""
        self._do("suspend")

    def hibernate(self) -> None:
        """Go to sleep in S4: SUSPEND_DISK, then off."""
        self._do("hibernate")

    def wakeup(self) -> None:
        """Be woken by a device of its own."""
        self._do("wakeup")

    def watchdog(self) -> None:
        """Let its watchdog expire."""
        self._do("watchdog")

    def unplug(self, device: str) -> None:
        """Let a device go: acknowledge that it is to, or eject it unasked."""
        self._do("unplug", device=device)

    def refuse_unplug(self, device: str) -> None:
        """Refuse to let a device go."""
        self._do("refuse-unplug", device=device)

    def balloon(self, size: int | str) -> None:
        """Keep `size` bytes and give the rest to the balloon."""
        self._do("balloon", size=size)

    def dirty_memory(self, rate: int | str, working_set: int | str | None = None) -> None:
        """Write to `rate` bytes a second from now on, all of them within `working_set`."""
        self._do("dirty-memory", rate=rate, working_set=working_set)

    def write_memory(self, address: int, data: bytes | str) -> None:
        """Write to guest-physical memory."""
        self._do("write-memory", address=address, data=data)

    def write_disk(
        self,
        disk: str,
        offset: int | str | None = None,
        size: int | str | None = None,
        data: bytes | str | None = None,
    ) -> None:
        """Write to a disk: id or name of its device, or node name."""
        self._do("write-disk", disk=disk, offset=offset, size=size, data=data)

    def read_disk(
        self, disk: str, offset: int | str | None = None, size: int | str | None = None
    ) -> None:
        """Read from a disk, for what that brings about: the data goes nowhere."""
        self._do("read-disk", disk=disk, offset=offset, size=size)

    def print(self, text: bytes | str, port: str | None = None) -> None:
        """Send text out of a serial port, the first or that of a device's id."""
        self._do("print", text=text, port=port)

    def program(
        self,
        path: str,
        exit_code: int | None = None,
        output: bytes | str | None = None,
        errors: bytes | str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Have a program for guest-exec: what it writes, how it ends, after how many seconds."""
        self._do(
            "program", path=path, exit_code=exit_code, output=output, errors=errors, seconds=seconds
        )

    def write_port(self, port: int, value: int, size: int | None = None) -> None:
        """Write 1, 2 or 4 bytes to an I/O port."""
        self._do("write-port", port=port, value=value, size=size)


class SyncMethods:
    """The methods of `FakeQemu` without await, each done in the thread of the handle's loop."""

    _handle: FakeQemu

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def _in_thread(self, function: Callable[[], T]) -> T:
        raise NotImplementedError

    @property
    def journal(self) -> Journal:
        """Everything that happened."""
        return self._handle.journal

    @property
    def exit_code(self) -> int | None:
        """What the machine left with; None while it lives."""
        return self._handle.exit_code

    @property
    def events(self) -> list[Event]:
        """Every event since the start, heard or not."""
        return self._handle.events

    @property
    def deadline(self) -> float:
        """Seconds that anything here may take."""
        return self._handle.deadline

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        self._handle.deadline = seconds

    def wait_exit(self) -> int:
        """Wait until the machine ends by itself; its exit code."""
        return self._run(self._handle.wait_exit())

    def mark(self) -> int:
        """This moment, for `wait_event(..., since=mark)`; 0 is the start."""
        return self._handle.mark()

    def wait_event(
        self, name: str, *, since: int | None = None, nth: int = 1, **data: Any
    ) -> Event:
        """The next event `name` with these members of `data`.

        It is one that came after the last of that name that was waited for, or after a `mark`
        (`since=0`: from the start); with `nth` the second, third and so on of them. Raises
        UnknownNameError, TimeoutError.
        """
        return self._run(self._handle.wait_event(name, since=since, nth=nth, **data))

    def wait_for(self, kind: str, name: str | None = None, **data: Any) -> JournalEntry:
        """The first entry of the journal of this kind, name and data: `wait_for("command")`."""
        return self._run(self._handle.wait_for(kind, name, **data))

    def expect(
        self, command: str, arguments: dict[str, Any] | None = None, times: int | None = None
    ) -> None:
        """`command` has to have come by the end, at least once or exactly `times` times.

        `arguments` are to be among its own; they may be matchers (`fakeqemu.testing.match`).
        Raises UnknownNameError. Unmet, it counts as a mistake of the code under test.
        """
        self._handle.expect(command, arguments, times)

    def expect_in_order(self, *steps: ExpectedStep) -> None:
        """Commands, or pairs of one and its arguments, have to come one after the other.

        Others may come between them. Raises UnknownNameError.
        """
        self._handle.expect_in_order(*steps)

    def now(self) -> float:
        """Seconds on the machine's clock."""
        return self._in_thread(self._handle.now)

    def advance(self, seconds: float) -> None:
        """Move a virtual clock; whatever falls due happens, with sockets served in between."""
        self._run(self._handle.advance(seconds))

    def jump(self) -> bool:
        """Move a virtual clock to the next timer; False if there is none."""
        return self._run(self._handle.jump())

    def run_until_idle(self, limit: int = 100000) -> int:
        """Move a virtual clock until no timer is left; how many there were.

        Raises TimeoutError after `limit`: something goes on for ever.
        """
        return self._run(self._handle.run_until_idle(limit))

    def run_until(
        self, kind: str, name: str | None = None, *, limit: int = 100000, **data: Any
    ) -> JournalEntry:
        """Jump until the journal has such an entry (see `wait_for`).

        While nothing is due it waits, within the deadline, for code under test that has not acted
        yet. Raises TimeoutError.
        """
        return self._run(self._handle.run_until(kind, name, limit=limit, **data))

    @property
    def was_started(self) -> bool:
        """Whether anybody tried to start it."""
        return self._handle.was_started

    @property
    def stderr(self) -> Any:
        """What went to standard error: `stderr.getvalue()`."""
        return self._handle.stderr

    @property
    def boot_log(self) -> list[JournalEntry]:
        """The steps of the start, in order, each with what it read."""
        return self._handle.boot_log

    @property
    def socket_path(self) -> str:
        """Where the QMP socket listens; short enough for every system."""
        return self._handle.socket_path

    @property
    def migration_uri(self) -> str:
        """An address of the machine's own to be migrated to."""
        return self._handle.migration_uri

    @property
    def directory(self) -> Path:
        """A directory of the machine's own, gone when it stops."""
        return self._handle.directory

    def qmp(self, command: str, arguments: dict[str, Any] | None = None, /, **keywords: Any) -> Any:
        """Run a QMP command; its `return`. Raises QmpError, SchemaViolation.

        Keywords are members with `_` for `-`; `arguments` takes members as they are.
        """
        return self._run(self._handle.qmp(command, arguments, **keywords))

    def hmp(self, line: str) -> str:
        """Run a line of the human monitor; what it prints, with plain line ends."""
        return self._run(self._handle.hmp(line))

    def send_event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Have the machine send an event now, whatever its state.

        Raises UnknownNameError, and SchemaViolation if `data` is not what it carries.
        """
        self._in_thread(lambda: self._handle.send_event(name, data))

    def complaints(self, **what: bool) -> str | None:
        """What is wrong so far, None if nothing; `what` is `Verifier.report`'s."""
        return self._handle.complaints(**what)
