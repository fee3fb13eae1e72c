"""Booted machines without processes and sockets, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.commands.registry import Deferred
from fakeqemu.model.block.files import FileSystem
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.schema import Schema
from fakeqemu.qapi.validate import check_event, check_reply
from fakeqemu.qmp.dispatch import dispatcher_of

COMMON = ("-nodefaults", "-display", "none", "-accel", "tcg")


def members_of(schema: Schema, command: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords as the members of a command's arguments, `_` for `-` where the schema has it."""
    arg_type = schema.commands[command].arg_type
    known = {each.name.replace("-", "_"): each.name for each in arg_type.members}
    return {known.get(key, key.replace("_", "-")): value for key, value in keywords.items()}


class Booted:
    """One machine in a world of its own; replies and events are checked against the schema."""

    def __init__(
        self,
        *argv: str,
        profile: str = "11.1",
        host: NullHost | None = None,
        common: Sequence[str] = COMMON,
    ) -> None:
        self.profile = Profile.load(profile)
        self.clock = VirtualClock()
        configuration = parse_command_line([*common, *argv], self.profile)
        boot = Boot.of(configuration, self.profile, self.clock, host or NullHost())
        self.vm: Machine = boot.vm
        self.events: list[tuple[str, Any]] = []
        for _request in boot.run():
            pass
        boot.finish()
        self.vm.events.listen(self._heard)
        self._human = HmpMonitor()

    def _heard(self, event: Event) -> None:
        check_event(self.profile.schema, event.name, event.data)
        self.events.append((event.name, event.data))

    def ask(self, command: str, /, **arguments: Any) -> Any:
        """The reply. Raises QapiError."""
        members = members_of(self.profile.schema, command, arguments)
        value = dispatcher_of(self.vm).execute(command, members)
        if isinstance(value, Deferred):
            assert value.done
            value = value.value
        check_reply(self.profile.schema, command, value if value is not None else {})
        return value

    def error(self, command: str, /, **arguments: Any) -> tuple[str, str]:
        """Class and text of the refusal."""
        try:
            value = self.ask(command, **arguments)
        except QapiError as error:
            return error.error_class, error.desc
        raise AssertionError(f"{command} succeeded: {value}")

    def hmp(self, line: str) -> str:
        """What the human monitor prints."""
        return run_hmp(self.vm, self._human, line)

    def names(self) -> list[str]:
        """The events' names since the last time."""
        names = [name for name, _data in self.events]
        self.events.clear()
        return names


class BlockMachine(Booted):
    """A q35, not running, with a file system and short words for the block layer."""

    def __init__(self, files: FileSystem, *argv: str, profile: str = "10.0") -> None:
        host = NullHost()
        host.files = files
        super().__init__("-machine", "q35", "-S", *argv, profile=profile, host=host)

    def ask(self, command: str, /, *, work: bool = True, **arguments: Any) -> Any:
        """The reply; what the command set off is done before, unless `work` is False."""
        value = super().ask(command, **arguments)
        if work:
            self.clock.run_until_idle()
        return value

    def desc(self, command: str, /, **arguments: Any) -> str:
        """The text of the refusal."""
        return self.error(command, **arguments)[1]

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

    def refusal_of_add(self, driver: str, name: str, **options: Any) -> str:
        """The text of blockdev-add's refusal."""
        try:
            self.add(driver, name, **options)
        except QapiError as error:
            return error.desc
        raise AssertionError(f"{name} was added")

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

    def node_names(self) -> set[str]:
        """The nodes that have a name of their own."""
        nodes = self.ask("query-named-block-nodes", flat=True)
        return {n["node-name"] for n in nodes if not n["node-name"].startswith("#")}
