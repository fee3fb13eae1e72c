"""The human monitor's commands of one version, as recorded: names, argument letters, help.

See hmp-commands.hx; hmp-commands-info.hx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fakeqemu.dataclass import dataclass

if TYPE_CHECKING:
    from fakeqemu.profile import Profile


@dataclass(frozen=True, slots=True)
class HmpDefinition:
    """One command."""

    #: as the table has it, aliases after bars: "quit|q"
    name: str
    #: QEMU's argument letters: "device:B,size:o"
    args: str
    #: whether it runs before the machine is ready
    preconfig: bool
    #: what help prints for it, without the names of the tables above
    help: str
    #: how the model registers it: "quit", "info status"
    key: str
    #: the commands below it, if it has any
    table: tuple[HmpDefinition, ...] | None = None


class HmpTable:
    """All commands of one version."""

    _cache: ClassVar[dict[Profile, HmpTable]] = {}

    def __init__(self, data: dict[str, Any]) -> None:
        below = tuple(self._entry(item, "info ") for item in data["info"])
        self.commands = tuple(
            self._entry(item, "", below if item["name"] == "info" else None)
            for item in data["commands"]
        )
        #: what `help log` prints
        self.log_items: str = data["log"]

    @staticmethod
    def _entry(
        item: dict[str, Any], prefix: str, table: tuple[HmpDefinition, ...] | None = None
    ) -> HmpDefinition:
        return HmpDefinition(
            name=item["name"],
            args=item["args"],
            preconfig=item["preconfig"],
            help=item["help"],
            key=prefix + item["name"].split("|")[0],
            table=table,
        )

    @classmethod
    def of(cls, profile: Profile) -> HmpTable:
        """The table of `profile`, read once."""
        if profile not in cls._cache:
            cls._cache[profile] = cls(profile.part("hmp-commands"))
        return cls._cache[profile]

    @staticmethod
    def find(entries: Sequence[HmpDefinition], name: str) -> HmpDefinition | None:
        """The command called `name`, or with that alias; no abbreviations."""
        return next((entry for entry in entries if name in entry.name.split("|")), None)
