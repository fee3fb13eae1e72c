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
from typing import TYPE_CHECKING, Any, Never, NoReturn, Unpack

from fakeqemu.clock import Clock
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.migration.object import current_migration
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing.errors import QmpError
from fakeqemu.testing.faults.api import FaultsApi
from fakeqemu.testing.machine.clock_control import ClockControl
from fakeqemu.testing.machine.generated import GuestApi
from fakeqemu.testing.machine.guest import check_guest
from fakeqemu.testing.machine.settings import (
    AsyncSettings,
    ClockName,
    GuestSettings,
    RunnerName,
    SyncSettings,
    check_options,
    check_settings,
    check_values,
)
from fakeqemu.testing.machine.stubs import Stubs
from fakeqemu.testing.machine.verification import StrictnessError, Verifier
from fakeqemu.testing.machine.waiting import EventWaiter
from fakeqemu.testing.machine.waits import HandleWaits
from fakeqemu.testing.names import UnknownNameError
from fakeqemu.testing.qapi_keywords import check_call, hint_for, members_of
from fakeqemu.testing.runners.base import InProcessRunner, Runner, Spec, say_where
from fakeqemu.testing.runners.choose import RUNNERS, make_directory, make_runner, remove_directory
from fakeqemu.testing.runners.loop_end import LoopEnd
from fakeqemu.testing.runners.own_client import OwnClient

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

    from fakeqemu.testing.clock.group_clock import GroupClock
    from fakeqemu.testing.machine.sync import SyncFakeQemu

_NOT_STARTED = "the machine is not started: use `async with` or await it first"
_STOPPED = "the machine has been stopped: make another one, and use it before its block ends"


class FakeQemu(HandleWaits):
    """One machine. Use it with `async with`, or `await` it and `await stop()`.

    `options` are QEMU's; a QMP socket at `socket_path` is added unless `socket` is False. It may
    also be that path.
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
        runner: RunnerName = "loop",
        clock: Clock | GroupClock | ClockName | None = None,
        speed: float = 1.0,
        socket: bool | str | Path = True,
        check_replies: bool = True,
        as_posted: bool = False,
        tap_directory: str | Path = "",
        client: bool = True,
        deadline: float = 10.0,
        guest: GuestSettings | None = None,
        seed: int | None = None,
        strict: bool = False,
        allow: Iterable[str] = (),
        name: str = "machine",
        scenario: str | Path | None = None,
        before_boot: Sequence[Callable[[Machine], None]] = (),
        **unknown: Never,
    ) -> None:
        check_settings(unknown)
        options = tuple(check_options(options))
        if runner not in RUNNERS:
            raise UnknownNameError("runner", runner, RUNNERS)
        check_values(locals())
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
        self._guest_words = check_guest(None if guest is None else dict(guest))
        #: what the guest does by itself, and how it reacts
        self.guest = GuestApi(self._call)
        #: answers in place of the model's
        self.stubs = Stubs(self._call, self.verifier)
        #: what goes wrong with this machine: `faults.add("late", command="query-status")`
        self.faults = FaultsApi(self._call, self.verifier)
        self._options = list(options)
        self._socket = socket
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
        self._waiter.over = self._over
        self._time = ClockControl(clock, self._waiter, self._running, self._living)
        self._waiter.hint = self._time.hint
        self._settings["clock"] = self._time.own
        self._runner: Runner | None = None
        self._directory: Path | None = None
        self._own: OwnClient | None = None
        self._stopped = False
        self._loop_end = LoopEnd(self.stop)
        self._seen = {}

    @staticmethod
    def sync(*options: str, **settings: Unpack[SyncSettings]) -> SyncFakeQemu:
        """The synchronous API: the same methods without await."""
        from fakeqemu.testing.machine.sync import SyncFakeQemu

        return SyncFakeQemu(*options, **settings)

    @staticmethod
    async def pair(
        *options: str, listen: bool = True, **settings: Unpack[AsyncSettings]
    ) -> tuple[FakeQemu, FakeQemu]:
        """A source and a destination that waits for it; see `testing.machine.pair`."""
        from fakeqemu.testing.machine.pair import pair

        given: dict[str, Any] = dict(settings)
        return await pair(FakeQemu, *options, listen=listen, **given)

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> FakeQemu:
        """Boot. Raises StartupError with QEMU's text when QEMU would not start."""
        if self._stopped:
            raise RuntimeError("a machine starts once, and this one has ended: make another one")
        if self._runner is not None:
            return self
        self._waiter.open()
        self._directory = make_directory()
        options = list(self._options)
        if self._socket is not False:
            options += ["-qmp", f"unix:{self.socket_path},server=on,wait=off"]
        spec = Spec(options, self.profile, self._directory, self._waiter, **self._settings)
        try:
            self._runner = self._make_runner(spec)
            await self._waiter.within(self._runner.start(), "the boot waits")
            await self._loop_end.begin()
            self.journal.aliases[str(self._directory)] = "${dir}"
            self.journal.waiter = self.wait_for
            self.journal.check = self._check_name
            await self._time.join()
            self._configure()
            if self._runner.client_side is not None:
                self._own = OwnClient(self._runner.client_side)
                await self._waiter.within(self._own.connect(), "QMPClient cannot connect")
        except BaseException as error:
            say_where(error)
            self.stop_now()
            raise
        return self

    async def stop(self) -> None:
        """End the machine.

        Raises SchemaViolation, and StrictnessError (without `strict` for bugs of ours only).
        """
        await self._loop_end.past()
        if self._own is not None:
            await self._own.disconnect()
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
        connected = self._own is not None and self._own.client is not None
        if connected and loop is not None and not loop.is_closed() and not loop.is_running():
            with contextlib.suppress(SchemaViolation, StrictnessError):
                loop.run_until_complete(self.stop())
            return
        self._close()

    @property
    def was_started(self) -> bool:
        """Whether anybody tried to start it."""
        return self._directory is not None

    @property
    def exit_code(self) -> int | None:
        """What the machine left with; None while it lives."""
        return None if self._runner is None else self._runner.exit_code

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "this machine is asynchronous: `async with`, or without await `FakeQemu.sync(...)`, "
            "`fakeqemu.sync(...)`"
        )

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    def __repr__(self) -> str:
        state = "not started" if self._runner is None else (
            "running" if self.exit_code is None else f"ended with {self.exit_code}"
        )  # fmt: skip
        return f"<{type(self).__name__} {self.name} {self.profile.name} {self.runner}, {state}>"

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
        runner = self._running()
        if not isinstance(runner, InProcessRunner):
            where = f"the machine is out of reach: it runs in a {self.runner}"
            raise RuntimeError(f"{where}; ask it with qmp(...), or have it in the test's own loop")
        assert runner.vm is not None
        return runner.vm

    @property
    def journal(self) -> Journal:
        """Everything that happened."""
        return self._running().journal

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
        return str(self.directory / "qmp" if isinstance(self._socket, bool) else self._socket)

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
        check_call(command, arguments)
        members = {**(arguments or {}), **members_of(self.profile.schema, command, keywords)}
        request = {"execute": command, **({"arguments": members} if members else {})}
        runner, what = self._living(), f"no reply to {command}"
        if (code := self.exit_code) is not None:
            raise ConnectionError(f"{what}: the machine has ended, exit status {code}")
        reply = await self._waiter.within(runner.ask("session-request", message=request), what)
        if self._waiter.violations:
            raise self._waiter.violations[0]
        if "error" in reply:
            error = reply["error"]
            # a tester who is told needs no second telling when the test ends
            self.verifier.acknowledge(command, error["desc"])
            hint = hint_for(self.profile.schema, request)
            raise QmpError(command, error["class"], error["desc"], hint)
        return reply["return"]

    async def hmp(self, line: str) -> str:
        """Run a line of the human monitor; what it prints, with plain line ends."""
        text = await self.qmp("human-monitor-command", {"command-line": line})
        return str(text).replace("\r\n", "\n")

    @property
    def client(self) -> QMPClient:
        """A connected `qemu.qmp.QMPClient`, on a monitor of its own."""
        client = None if self._own is None else self._own.client
        if client is None:
            self._living()
            raise RuntimeError("the machine was made with client=False: leave that out, or use qmp")
        return client

    def send_event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Have the machine send an event now, whatever its state.

        Raises UnknownNameError, and SchemaViolation if `data` is not what it carries.
        """
        self._call("event", name=name, data=data)

    def complaints(self, **what: bool) -> str | None:
        """What is wrong so far, None if nothing; `what` is `Verifier.report`'s."""
        if self._runner is None:
            return None
        text = self.verifier.report(self.journal, self.seed, **what)
        return None if text is None else f"{self.name}: {text}"

    # -- inside ------------------------------------------------------------------------------

    def _running(self) -> Runner:
        if self._runner is None:
            raise RuntimeError(_NOT_STARTED)
        return self._runner

    def _living(self) -> Runner:
        if (reason := self._over()) is not None:
            raise RuntimeError(reason)
        return self._running()

    def _over(self) -> str | None:
        return _STOPPED if self._stopped else _NOT_STARTED if self._runner is None else None

    def _call(self, verb: str, /, **parameters: Any) -> Any:
        return self._living().call(verb, **parameters)

    def _make_runner(self, spec: Spec) -> Runner:
        return make_runner(self.runner, spec)

    def _configure(self) -> None:
        self._call("set-seed", seed=self.seed)
        for verb, arguments in self._guest_words.items():
            self._call(verb, **arguments)

    def _close(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._runner is not None:
            self._runner.stop_now()
            side = self._runner.client_side
            if self._own is not None:
                self._own.close()
            elif side is not None:
                side.close()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            remove_directory(self._directory)
