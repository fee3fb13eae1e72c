"""A machine with images in memory, and one with real ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.commands.registry import Deferred
from fakeqemu.io.files.image_files import RealFiles
from fakeqemu.model.block.files import FileSystem, MemoryFiles
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.validate import check_event, check_reply
from fakeqemu.qmp.dispatch import dispatcher_of

sys.path.insert(0, str(Path(__file__).parent))


class Running:
    """One machine and what it said."""

    def __init__(self, files: FileSystem, *argv: str, profile: str = "10.0") -> None:
        self.profile = Profile.load(profile)
        host = NullHost()
        host.files = files
        self.clock = VirtualClock()
        configuration = parse_command_line(
            ["-machine", "q35", "-display", "none", "-accel", "tcg", "-nodefaults", "-S", *argv],
            self.profile,
        )
        boot = Boot.of(configuration, self.profile, self.clock, host)
        self.vm = boot.vm
        self.events: list[tuple[str, Any]] = []
        self.vm.events.listen(self._heard)
        for _request in boot.run():
            pass
        boot.finish()
        self._human = HmpMonitor()

    def _heard(self, event: Any) -> None:
        check_event(self.profile.schema, event.name, event.data)
        self.events.append((event.name, event.data))

    def ask(self, command: str, /, *, work: bool = True, **arguments: Any) -> Any:
        """The reply, checked against the schema; `_` in names spells `-` where the schema does.

        What the command set off is done before this returns, unless `work` is False.
        """
        known = {
            member.name.replace("-", "_"): member.name
            for member in self.profile.schema.commands[command].arg_type.members
        }
        members = {known.get(name, name.replace("_", "-")): v for name, v in arguments.items()}
        value = dispatcher_of(self.vm).execute(command, members)
        if isinstance(value, Deferred):
            assert value.done
            value = value.value
        check_reply(self.profile.schema, command, value if value is not None else {})
        if work:
            self.clock.run_until_idle()
        return value

    def add(self, driver: str, name: str, **options: Any) -> None:
        """blockdev-add."""
        members = {key.replace("_", "-"): value for key, value in options.items()}
        dispatcher_of(self.vm).execute(
            "blockdev-add", {"driver": driver, "node-name": name, **members}
        )

    def image(self, name: str, size: int = 1 << 20, **more: Any) -> None:
        """A qcow2 image in a file of that name, as nodes NAME-file and NAME."""
        path = f"/{name}.qcow2"
        self.ask(
            "blockdev-create", job_id="make",
            options={"driver": "file", "filename": path, "size": 0},
        )  # fmt: skip
        self.ask("job-dismiss", id="make")
        self.add("file", f"{name}-file", filename=path)
        options = {"driver": "qcow2", "file": f"{name}-file", "size": size}
        self.ask("blockdev-create", job_id="make", options=options)
        self.ask("job-dismiss", id="make")
        self.add("qcow2", name, file=f"{name}-file", backing=None, **more)
        self.events.clear()

    def error(self, command: str, /, **arguments: Any) -> str:
        """The text of the refusal."""
        try:
            value = self.ask(command, **arguments)
        except QapiError as error:
            return error.desc
        raise AssertionError(f"{command} succeeded: {value}")

    def refusal_of_add(self, driver: str, name: str, **options: Any) -> str:
        """The text of blockdev-add's refusal."""
        try:
            self.add(driver, name, **options)
        except QapiError as error:
            return error.desc
        raise AssertionError(f"{name} was added")

    def hmp(self, line: str) -> str:
        """What the human monitor prints."""
        return run_hmp(self.vm, self._human, line)

    def statuses(self) -> list[str]:
        """The states jobs went through since the last time."""
        found = [d["status"] for name, d in self.events if name == "JOB_STATUS_CHANGE"]
        self.events.clear()
        return found

    def node(self, name: str) -> dict[str, Any]:
        """One of query-named-block-nodes, flat."""
        nodes = self.ask("query-named-block-nodes", flat=True)
        found: dict[str, Any] = next(n for n in nodes if n["node-name"] == name)
        return found

    def names(self) -> set[str]:
        """The nodes that have a name of their own."""
        nodes = self.ask("query-named-block-nodes", flat=True)
        return {n["node-name"] for n in nodes if not n["node-name"].startswith("#")}


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def start(files: MemoryFiles) -> Callable[..., Running]:
    def make(*argv: str, profile: str = "10.0") -> Running:
        return Running(files, *argv, profile=profile)

    return make


@pytest.fixture
def machine(start: Callable[..., Running]) -> Running:
    return start()


@pytest.fixture
def real() -> Running:
    return Running(RealFiles())


@pytest.fixture
def qemu_img() -> Path:
    found = shutil.which("qemu-img")
    if found is None:
        pytest.skip("qemu-img is not installed")
    return Path(found)
