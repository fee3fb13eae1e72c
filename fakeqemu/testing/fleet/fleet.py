"""Thousands of machines in one process, each with sockets of its own, one control socket for all.

    async with Fleet.of(100, "-machine", "none", profile="10.0") as fleet:
        await fleet["vm-7"].qmp("query-status")
        fleet["vm-7"].faults.add("silent")

A machine of a fleet is a `FakeQemu`; its monitor is at `fleet.socket(name)`. It runs in this event
loop, or with `runner` in a thread or process of its own: a few dozen then, not thousands. What a
fleet file has happen to its machines, and the control socket, need the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from fakeqemu.clock import VirtualClock
from fakeqemu.io.loop import Loop
from fakeqemu.testing.clock.group_clock import GroupClock
from fakeqemu.testing.control.server import ControlServer, control_address
from fakeqemu.testing.fleet.file import FleetFile, FleetMember
from fakeqemu.testing.fleet.stages import FleetStages, picked
from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.machine.settings import (
    FleetSettings,
    check_options,
    check_settings,
    check_values,
)
from fakeqemu.testing.names import check_name
from fakeqemu.testing.runners.choose import RUNNERS
from fakeqemu.testing.scenarios.stages import Stage, carry_out
from fakeqemu.testing.verbs.controller import MachineController

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: how many boot before others get their turn
_BATCH = 16
#: descriptors that one machine may want: listener, client, migration, and some
_FDS = 8


class Fleet:
    """Machines by name. `async with`, or `start` and `stop`."""

    def __init__(
        self,
        file: FleetFile | str | Path,
        *,
        shard: tuple[int, int] | None = None,
        directory: str | Path | None = None,
        control: str | None = None,
        journal: int | None = None,
        **settings: Unpack[FleetSettings],
    ) -> None:
        """`journal`: keep so many last entries of each machine's (None: all).

        `settings` go to each `FakeQemu`. Raises ScenarioError for a file that is wrong."""
        given: dict[str, Any] = dict(settings)
        check_settings(given, FleetSettings, "setting of a fleet")
        if not isinstance(file, FleetFile | str | Path):
            raise TypeError(f"a fleet is a file, or Fleet.of({file!r}, ...), not Fleet({file!r})")
        told = file if isinstance(file, FleetFile) else FleetFile.load(file)
        if shard is not None:
            told = told.shard(*shard)
        self.file = told
        self._wanted_directory = directory or told.directory
        self._journal = journal
        self._control_address = control or told.control
        #: where each of its machines runs
        self.runner = check_name("runner", given.get("runner", "loop"), RUNNERS)
        self._check_runner()
        #: whether each has a socket
        self._socket = given.pop("socket", True)
        if not isinstance(self._socket, bool):
            raise ValueError("each machine of a fleet has its socket in `directory`: True or False")
        if given.get("clock") == "virtual":
            # one for all
            given["clock"] = VirtualClock() if self.runner == "loop" else GroupClock()
        check_values(given)
        self.seed = told.seed if given.get("seed") is None else int(given["seed"])
        self._settings = {
            "check_replies": False, "client": False, **given, "seed": self.seed,
        }  # fmt: skip
        self._random = Random(self.seed)
        self._machines: dict[str, FakeQemu] = {}
        everyone = told.everyone or tuple(member.name for member in told.members)
        self._stages = FleetStages(told.stages, everyone, self._machines, self.seed)
        self._members = {member.name: member for member in told.members}
        self._control: ControlServer | None = None
        self._temporary: Path | None = None
        self.directory = Path()

    @staticmethod
    def of(
        count: int,
        *options: str,
        profile: str = "next",
        shard: tuple[int, int] | None = None,
        directory: str | Path | None = None,
        control: str | None = None,
        journal: int | None = None,
        **settings: Unpack[FleetSettings],
    ) -> Fleet:
        """So many like machines, "vm-0" and on. Raises TypeError, ValueError."""
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(
                f"Fleet.of takes how many there are, then the options: Fleet.of(10, '-machine', "
                f"'none'), not {count!r}"
            )
        if count < 1:
            raise ValueError(f"a fleet has at least one machine, not {count}")
        options = tuple(check_options(options))
        members = tuple(FleetMember(f"vm-{number}", profile, options) for number in range(count))
        file = FleetFile("fleet", members)
        return Fleet(
            file, shard=shard, directory=directory, control=control, journal=journal, **settings
        )

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> Fleet:
        """Boot all. Raises StartupError of the first that does not start; then none is left."""
        allow_descriptors(len(self._members) * _FDS)
        if self._wanted_directory is None:
            self._temporary = self.directory = Path(tempfile.mkdtemp(prefix="fqf-", dir="/tmp"))
        else:
            self.directory = Path(self._wanted_directory)
            self.directory.mkdir(parents=True, exist_ok=True)
        try:
            for number, name in enumerate(self._members, 1):
                await self.start_one(name)
                if number % _BATCH == 0:
                    await asyncio.sleep(0)
            if self._machines and self.runner == "loop":
                self._stages.began(next(iter(self)).vm.process.call_later)
            if self._control_address is not None:
                loop = Loop(asyncio.get_running_loop())
                address = control_address(self._control_address)
                self._control = ControlServer(loop, address, _Running(self._machines))
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """End all, and leave nothing behind."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for name in tuple(self._machines):
            await self.stop_one(name)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    async def start_one(self, name: str) -> FakeQemu:
        """Boot one that does not run. Raises StartupError."""
        member = self._members[check_name("machine", name, self._members)]
        if name in self._machines:
            raise ValueError(f"machine {name!r} runs already")
        machine = FakeQemu(
            *member.options,
            profile=member.profile,
            socket=self._socket and self.socket(name),
            before_boot=self._before_boot(member),
            name=name,
            **self._settings,
        )  # fmt: skip
        self._machines[name] = machine
        try:
            await machine.start()
        except BaseException:
            del self._machines[name]
            raise
        if self.runner == "loop":
            self._stages.watch(name, machine)
        elif self._journal is not None:
            machine.journal.keep_last(self._journal)
        return machine

    def _check_runner(self) -> None:
        """Whether the file and the settings go with the runner. Raises ValueError."""
        if self.runner == "loop":
            return
        where = f"a machine in a {self.runner}, which the fleet's loop cannot look into"
        if self.file.stages or any(
            scenario.verbs or scenario.stages
            for member in self.file.members
            for scenario in member.scenarios
        ):
            raise ValueError(
                f"faults, stages and guests of a fleet file do not reach {where}: leave runner "
                "out, or use fleet.happen(...), fleet[name].faults and fleet[name].guest"
            )
        if self._control_address is not None:
            raise ValueError(f"a fleet's control socket does not show {where}: leave runner out")

    def _before_boot(self, member: FleetMember) -> list[Callable[[Machine], None]]:
        if self.runner != "loop":
            return []
        return [self._keep_last, *(scenario.apply for scenario in member.scenarios)]

    def _keep_last(self, vm: Machine) -> None:
        if self._journal is not None:
            vm.journal.keep_last(self._journal)

    async def stop_one(self, name: str) -> None:
        """End one; it may be started again."""
        machine = self._machines.pop(check_name("machine", name, self._members), None)
        if machine is not None:
            await machine.stop()
            with contextlib.suppress(OSError):
                self.socket(name).unlink()

    async def __aenter__(self) -> Fleet:
        return await self.start()

    def __await__(self) -> Generator[Any, None, Fleet]:
        return self.start().__await__()

    def __enter__(self) -> NoReturn:
        raise TypeError("a fleet is asynchronous: `async with Fleet.of(...) as fleet`")

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        running = sum(machine.exit_code is None for machine in self)
        return f"<Fleet of {len(self._members)} machines, {running} running, at {self.directory}>"

    # -- machines ----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> FakeQemu:
        if name not in self._machines:
            if not isinstance(name, str):
                raise TypeError(f"machines of a fleet have names: fleet['vm-0'], not [{name!r}]")
            check_name("machine", name, self._members)
            raise RuntimeError(
                f"machine {name!r} does not run: use `async with` or start() first, and start_one "
                "for one that was stopped"
            )
        return self._machines[name]

    def __iter__(self) -> Iterator[FakeQemu]:
        return iter(tuple(self._machines.values()))

    def __len__(self) -> int:
        return len(self._machines)

    @property
    def names(self) -> list[str]:
        """Those that have been started."""
        return list(self._machines)

    @property
    def control_address(self) -> str | None:
        """Where the control socket is, its port as it is; None without one."""
        if self._control is None or self._control_address is None:
            return None
        before, _, _ = self._control_address.rpartition(":")
        unix = self._control_address.startswith("unix:")
        return self._control_address if unix else f"{before}:{self._control.port}"

    def socket(self, name: str) -> Path:
        """Where a machine's QMP socket is."""
        return self.directory / f"{name}.qmp"

    def happen(self, *then: Any, machines: str = "*", pick: int | None = None) -> list[str]:
        """Let a stage's actions (`{"exit": 1}`, "drop-channels") happen now; to whom they did.

        `pick`: to so many of those that run and fit the pattern, chosen by the fleet's seed.
        Raises ValueError.
        """
        stage = Stage({"time": 0}, then)
        alive = [machine.name for machine in self if machine.exit_code is None]
        names = picked(alive, machines, pick, self._random)
        for name in names:
            stage.actions(self[name].profile)
        for name in names:
            if self.runner == "loop":
                carry_out(MachineController(self[name].vm), stage)
            else:
                self._have(self[name], stage)
        return names

    @staticmethod
    def _have(machine: FakeQemu, stage: Stage) -> None:
        """As `carry_out`, where the machine is out of reach: by the verbs as they were written."""
        for verb, arguments in stage.spoken():
            machine._call(verb, **arguments)

    # -- time --------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Move the virtual clock of all (`clock="virtual"`)."""
        await self._hand().advance(seconds)

    async def jump(self) -> bool:
        """Move it to the next timer of any; False if there is none."""
        return await self._hand().jump()

    async def run_until_idle(self, limit: int = 100_000) -> int:
        """Move it until no timer is left; how many there were."""
        return await self._hand().run_until_idle(limit)

    def _hand(self) -> FakeQemu:
        living = (machine for machine in self if machine.exit_code is None)
        found = next(living, None)
        if found is None:
            raise RuntimeError("no machine of the fleet runs")
        return found

    async def migrate(self, source: str, destination: str) -> None:
        """Migrate one into another that was started with `-incoming defer`."""
        uri = f"unix:{self.directory / destination}.mig"
        events = [{"capability": "events", "state": True}]
        for name in (source, destination):
            await self[name].qmp("migrate-set-capabilities", capabilities=events)
        await self[destination].qmp("migrate-incoming", uri=uri)
        await self[source].qmp("migrate", uri=uri)
        await self[source].wait_event("MIGRATION", status="completed")
        await self[destination].wait_event("MIGRATION", status="completed")


class _Running(Mapping[str, "Machine"]):
    """The machines as the control socket wants them, those of the moment."""

    def __init__(self, machines: dict[str, FakeQemu]) -> None:
        self._machines = machines

    def __getitem__(self, name: str) -> Machine:
        return self._machines[name].vm

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._machines))

    def __len__(self) -> int:
        return len(self._machines)


def allow_descriptors(number: int) -> None:
    """Raise the soft limit of open files, as far as the hard one lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + 256
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
