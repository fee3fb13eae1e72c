"""One handle on a machine, wherever it runs: boots, answers, and leaves nothing behind.

Real sockets, so that the code under test may connect; `qmp` does not need one. Whatever
waits has a deadline, and its message says what the machine did last. Where the machine runs is
a `Runner`'s affair: the tester's loop, a thread, a process, a fork of a warm server.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND, Clock
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.migration.object import current_migration
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing.errors import QmpError
from fakeqemu.testing.faults.api import FaultsApi
from fakeqemu.testing.machine.clock_control import ClockControl
from fakeqemu.testing.machine.generated import GuestApi
from fakeqemu.testing.machine.guest import check_guest
from fakeqemu.testing.machine.matchers import find_entry, find_event
from fakeqemu.testing.machine.stubs import Stubs
from fakeqemu.testing.machine.verification import StrictnessError, Verifier
from fakeqemu.testing.machine.waiting import EventWaiter
from fakeqemu.testing.names import UnknownNameError
from fakeqemu.testing.qapi_keywords import members_of
from fakeqemu.testing.runners.base import InProcessRunner, Runner, Spec
from fakeqemu.testing.runners.choose import RUNNERS, make_directory, make_runner, remove_directory

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

    from fakeqemu.testing.machine.sync import SyncFakeQemu

_NOT_STARTED = "the machine is not started: use `async with` or await it first"


class FakeQemu:
    """One machine. Use it with `async with`, or `await` it and `await stop()`.

    `options` are QEMU's; a QMP socket at `socket_path` is added unless `socket` is False.
    `proposals` are laid over the profile: `local`, `config-argument:stored=on` (docs/proposals.md).
    `runner` is where it runs: "loop" (the test's own), "thread", "process" or "fork" (of a warm
    server). `clock` is "virtual", a `VirtualClock` that the test moves or a `GroupClock` for
    several machines, or None for real time; `speed` makes real time run faster. `guest` is what
    a migration has to carry (see `testing.machine.guest`). With `check_replies` every reply and
    event must match the schema; without `client` there is no `client`. `scenario` is a scenario
    file or a scenario's name (see docs/scenarios). Machines with one `tap_directory` see each
    other's TAPs. With `strict`, `stop` raises StrictnessError for what was kept quiet, but `allow`.
    """

    def __init__(
        self,
        *options: str,
        profile: str | Profile = "next",
        proposals: Sequence[str] = (),
        runner: str = "loop",
        clock: Clock | str | None = None,
        speed: float = 1.0,
        socket: bool = True,
        check_replies: bool = True,
        as_posted: bool = False,
        tap_directory: str | Path = "",
        client: bool = True,
        deadline: float = 10.0,
        guest: dict[str, Any] | None = None,
        seed: int | None = None,
        strict: bool = False,
        allow: Iterable[str] = (),
        name: str = "machine",
        scenario: str | Path | None = None,
        before_boot: Sequence[Callable[[Machine], None]] = (),
    ) -> None:
        if runner not in RUNNERS:
            raise UnknownNameError("runner", runner, RUNNERS)
        if seed is None and "FAKEQEMU_SEED" in os.environ:
            seed = int(os.environ["FAKEQEMU_SEED"])
        if scenario is not None:
            from fakeqemu.testing.scenarios.file import load_scenario

            told = load_scenario(scenario, seed)
            seed = told.seed
            profile = told.profile if told.profile and profile == "next" else profile
            if runner in ("loop", "thread"):
                # in another process it is read there
                options, before_boot = (*told.options, *options), (*before_boot, told.apply)
        self.profile = Profile.load(profile, proposals)
        if scenario is not None:
            told.check(self.profile)
        self.runner = runner
        #: what reports and pages call it
        self.name = name
        #: for whatever is left to chance
        self.seed = 0 if seed is None else seed
        #: mistakes of the code under test, and what is expected of it
        self.verifier = Verifier(self.profile.schema, allow)
        self.strict = strict
        self._guest_words = check_guest(guest)
        #: what the guest does by itself, and how it reacts
        self.guest = GuestApi(self._call)
        #: answers in place of the model's
        self.stubs = Stubs(self._call, self.verifier)
        #: what goes wrong with this machine: `faults.add("late", command="query-status")`
        self.faults = FaultsApi(self._call, self.verifier)
        self._options = list(options)
        self._has_socket = socket
        self._settings: dict[str, Any] = {
            "speed": speed,
            "check": check_replies,
            "as_posted": as_posted,
            "tap_directory": str(tap_directory),
            "client": client,
            "deadline": deadline,
            "before_boot": before_boot,
            "scenario": "" if scenario is None else str(scenario),
            "seed": self.seed,
        }
        self._waiter = EventWaiter(
            deadline,
            lambda: None if self._runner is None else self._runner.journal,
            self.verifier.watch,
            self.stubs.answer,
            threaded=runner == "thread",
        )
        self._waiter.on_end = self._ended
        self._time = ClockControl("real" if clock is None else clock, self._waiter, self._running)
        self._waiter.hint = self._time.hint
        self._settings["clock"] = self._time.own
        self._runner: Runner | None = None
        self._directory: Path | None = None
        self._client: QMPClient | None = None
        #: whether the client's socket is the client's
        self._connected = False
        self._stopped = False

    @staticmethod
    def sync(*options: str, **settings: Any) -> SyncFakeQemu:
        """The synchronous API: the same methods without await."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        return SyncFakeQemu(*options, **settings)

    @staticmethod
    async def pair(*options: str, **settings: Any) -> tuple[FakeQemu, FakeQemu]:
        """A source and a destination that waits for it; see `testing.machine.pair`."""
        from fakeqemu.testing.machine.pair import pair

        return await pair(FakeQemu, *options, **settings)

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> FakeQemu:
        """Boot. Raises StartupError with QEMU's text when QEMU would not start."""
        if self._runner is not None:
            return self
        self._waiter.open()
        self._directory = make_directory()
        options = list(self._options)
        if self._has_socket:
            options += ["-qmp", f"unix:{self.socket_path},server=on,wait=off"]
        spec = Spec(options, self.profile, self._directory, self._waiter, **self._settings)
        self._runner = make_runner(self.runner, spec)
        try:
            await self._waiter.within(self._runner.start(), "the boot waits")
            self.journal.aliases[str(self._directory)] = "${dir}"
            self.journal.waiter = self.wait_for
            await self._time.join()
            self._call("set-seed", seed=self.seed)
            for verb, arguments in self._guest_words.items():
                self._call(verb, **arguments)
            if self._runner.client_side is not None:
                await self._connect_client()
        except BaseException:
            self.stop_now()
            raise
        return self

    async def stop(self) -> None:
        """End the machine.

        Raises SchemaViolation, and StrictnessError (without `strict` for bugs of ours only).
        """
        if self._client is not None:
            client, self._client = self._client, None
            with contextlib.suppress(Exception):
                await client.disconnect()
        if self._runner is not None:
            self._time.leave()
            await self._runner.stop()
        self._close()
        if self._waiter.violations:
            raise self._waiter.violations[0]
        if (report := self.complaints(bugs_only=not self.strict)) is not None:
            raise StrictnessError(report)

    def stop_now(self) -> None:
        """As `stop`, for where nothing can be awaited; raises nothing."""
        loop = self._waiter.loop
        if self._client is not None and loop is not None and not loop.is_closed():
            if not loop.is_running():
                with contextlib.suppress(SchemaViolation, StrictnessError):
                    loop.run_until_complete(self.stop())
                return
            self._client = None
        self._close()

    async def wait_exit(self) -> int:
        """Wait until the machine ends by itself; its exit code."""
        return await self._waiter.until(lambda: self.exit_code, "the machine has not ended")

    @property
    def exit_code(self) -> int | None:
        """What the machine left with; None while it lives."""
        return None if self._runner is None else self._runner.exit_code

    async def __aenter__(self) -> FakeQemu:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.stop()
            return
        with contextlib.suppress(SchemaViolation, StrictnessError):
            await self.stop()

    def __await__(self) -> Generator[Any, None, FakeQemu]:
        return self.start().__await__()

    def _ended(self) -> None:
        loop = self._waiter.loop
        if self.runner == "loop" and loop is not None and not loop.is_closed():
            loop.call_soon(self._remove_directory)

    # -- what the machine is and did ---------------------------------------------------------

    @property
    def vm(self) -> Machine:
        """The machine itself, where it is in the test's own loop."""
        if self._runner is None:
            raise RuntimeError(_NOT_STARTED)
        if not isinstance(self._runner, InProcessRunner):
            raise RuntimeError(f"the machine is out of reach: it runs in a {self.runner}")
        assert self._runner.vm is not None
        return self._runner.vm

    @property
    def journal(self) -> Journal:
        """Everything that happened."""
        return self._running().journal

    @property
    def events(self) -> list[Event]:
        """Every event since the start, heard or not."""
        return self._waiter.events

    @property
    def deadline(self) -> float:
        """Seconds that anything here may take."""
        return self._waiter.deadline

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        self._waiter.deadline = seconds

    @property
    def stderr(self) -> Any:
        """What went to standard error: `stderr.getvalue()`."""
        return self._running().stderr

    @property
    def boot_log(self) -> list[JournalEntry]:
        """The steps of the start, in order, each with what it read."""
        return self.journal.of("boot")

    @property
    def parameters(self) -> Any:
        """The migration parameters; `explain(name)` tells where a value comes from."""
        migration = current_migration(self.vm)
        if migration is None:
            raise RuntimeError("the boot has not made the migration object yet")
        return migration.parameters

    @property
    def socket_path(self) -> str:
        """Where the QMP socket listens; short enough for every system."""
        return str(self.directory / "qmp")

    @property
    def migration_uri(self) -> str:
        """An address of the machine's own to be migrated to."""
        return f"unix:{self.directory / 'migration'}"

    @property
    def directory(self) -> Path:
        """A directory of the machine's own, gone when it stops."""
        if self._directory is None:
            raise RuntimeError(_NOT_STARTED)
        return self._directory

    # -- talking to it -----------------------------------------------------------------------

    async def qmp(
        self, command: str, arguments: dict[str, Any] | None = None, /, **keywords: Any
    ) -> Any:
        """Run a QMP command; its `return`. Raises QmpError, SchemaViolation.

        Keywords are members with `_` for `-`; `arguments` takes members as they are.
        """
        request: dict[str, Any] = {"execute": command}
        members = {**(arguments or {}), **members_of(self.profile.schema, command, keywords)}
        if members:
            request["arguments"] = members
        reply = await self._waiter.within(
            self._running().ask("session-request", message=request), f"no reply to {command}"
        )
        if self._waiter.violations:
            raise self._waiter.violations[0]
        if "error" in reply:
            error = reply["error"]
            # a tester who is told needs no second telling when the test ends
            self.verifier.acknowledge(command, error["desc"])
            raise QmpError(command, error["class"], error["desc"])
        return reply["return"]

    async def hmp(self, line: str) -> str:
        """Run a line of the human monitor; what it prints, with plain line ends."""
        text = await self.qmp("human-monitor-command", {"command-line": line})
        return str(text).replace("\r\n", "\n")

    @property
    def client(self) -> QMPClient:
        """A connected `qemu.qmp.QMPClient`, on a monitor of its own."""
        if self._client is None:
            raise RuntimeError("the machine is not started, or was made with client=False")
        return self._client

    async def wait_event(self, name: str, **data: Any) -> Event:
        """The first event `name` since the start that has these members of `data`."""
        return await self._waiter.until(
            lambda: find_event(self.events, name, data), f"event {name} {data or ''} never came"
        )

    async def wait_for(self, kind: str, name: str | None = None, **data: Any) -> JournalEntry:
        """The first entry of the journal of this kind, name and data: `wait_for("command")`."""
        return await self._waiter.until(
            lambda: find_entry(self.journal, kind, name, data),
            f"{kind} {name or ''} was never noted",
        )

    def send_event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Have the machine send an event now, whatever its state.

        Raises UnknownNameError, and SchemaViolation if `data` is not what it carries.
        """
        self._call("event", name=name, data=data)

    def expect(
        self, command: str, arguments: dict[str, Any] | None = None, times: int | None = None
    ) -> None:
        """`command` has to have come by the end, at least once or exactly `times` times.

        Raises UnknownNameError. Unmet, it counts as a mistake of the code under test.
        """
        self.verifier.expect(command, arguments, times)

    def complaints(self, **what: bool) -> str | None:
        """What is wrong so far, None if nothing; `what` is `Verifier.report`'s."""
        if self._runner is None:
            return None
        text = self.verifier.report(self.journal, self.seed, **what)
        return None if text is None else f"{self.name}: {text}"

    # -- time --------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the machine's clock."""
        return self._time.now() / SECOND

    async def advance(self, seconds: float) -> None:
        """Move a virtual clock; whatever falls due happens, with sockets served in between."""
        await self._time.advance(seconds)

    async def jump(self) -> bool:
        """Move a virtual clock to the next timer; False if there is none."""
        return await self._time.jump()

    async def run_until_idle(self, limit: int = 100_000) -> int:
        """Move a virtual clock until no timer is left; how many there were.

        Raises TimeoutError after `limit`: something goes on for ever.
        """
        return await self._time.run_until_idle(limit)

    async def run_until(
        self, kind: str, name: str | None = None, *, limit: int = 100_000, **data: Any
    ) -> JournalEntry:
        """Jump until the journal has such an entry (see `wait_for`). Raises TimeoutError."""
        return await self._time.run_until(
            lambda: find_entry(self.journal, kind, name, data),
            f"{kind} {name or ''} was never noted",
            limit,
        )

    # -- inside ------------------------------------------------------------------------------

    def _running(self) -> Runner:
        if self._runner is None:
            raise RuntimeError(_NOT_STARTED)
        return self._runner

    def _call(self, verb: str, /, **parameters: Any) -> Any:
        return self._running().call(verb, **parameters)

    async def _connect_client(self) -> None:
        from qemu.qmp import QMPClient

        assert self._runner is not None and self._runner.client_side is not None
        client = QMPClient("fakeqemu")
        self._connected = True
        connecting = client.connect(self._runner.client_side)
        await self._waiter.within(connecting, "QMPClient cannot connect")
        self._client = client

    def _close(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._runner is not None:
            self._runner.stop_now()
            if not self._connected and self._runner.client_side is not None:
                self._runner.client_side.close()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            remove_directory(self._directory)
