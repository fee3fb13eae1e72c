"""One profile's account, the account of all that is kept, and the reasons for what it lists.

`effect_account.json` is written by `find_unread --write`; the coverage page is made from it, and
a test compares it with what is measured. `effect_reasons.json` is written by hand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from effect.drive import play_page, play_record
from effect.inputs import generate, plug_everything, start_with_each_key
from effect.static import unread_options
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads

ROOT = Path(__file__).resolve().parents[2]
REASONS = ROOT / "scripts" / "effect_reasons.json"
ACCOUNT = ROOT / "scripts" / "effect_account.json"
RECORDS = ROOT / "tests" / "conformance" / "records"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def measured(profile: Profile, *, seed: int = 1, rounds: int = 10) -> dict[str, str]:
    """Member, or option whose text nobody reads -> class."""
    found = gather(profile, seed=seed, rounds=rounds).classes()
    return found | {f"-{name}": kind for name, kind in unread_options(profile).items()}


@dataclass(slots=True)
class Account:
    """What was found for all versions."""

    #: member without full effect -> its class -> the versions where it was accepted
    members: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    #: properties that had an effect with at least one type of device
    device_properties: list[str] = field(default_factory=list)

    @staticmethod
    def load(path: Path = ACCOUNT) -> Account:
        """Read the file."""
        kept = json.loads(path.read_text("utf-8"))
        return Account(kept["members"], kept["device-properties"])

    def add(self, version: str, found: dict[str, str]) -> None:
        """What was measured of a version, in place of what was known of it."""
        for member, kinds in list(self.members.items()):
            for kind, versions in list(kinds.items()):
                if version in versions:
                    versions.remove(version)
                if not versions:
                    del kinds[kind]
            if not kinds:
                del self.members[member]
        for member, kind in found.items():
            if kind != reads.EFFECT:
                self.members.setdefault(member, {}).setdefault(kind, []).append(version)
            elif member.startswith("device ") and member.split()[2] not in self.device_properties:
                self.device_properties.append(member.split()[2])

    def save(self, path: Path = ACCOUNT) -> None:
        """Write the file."""
        for kinds in self.members.values():
            for versions in kinds.values():
                versions.sort(key=list(Profile.names(composed=False)).index)
        kept = {
            "device-properties": sorted(self.device_properties),
            "members": dict(sorted(self.members.items())),
        }
        lines = json.dumps(kept, indent=1)
        # one member a line
        lines = re.sub(r'\n\s+(?=["\]}])(?!\s*"[^"]+": \{)', " ", lines)
        path.write_text(lines + "\n", "utf-8")

    def versions(self, member: str) -> list[str]:
        """Where `member` was accepted without full effect."""
        return [each for found in self.members.get(member, {}).values() for each in found]


def gather(profile: Profile, *, seed: int = 1, rounds: int = 10) -> reads.Log:
    """Play everything with `profile`; what was read."""
    log = reads.start()
    try:
        for path in sorted((RECORDS / profile.name).glob("*.json")):
            play_record(path, profile)
        for path in PAGES:
            play_page(path, profile)
        generate(profile, seed, rounds)
        plug_everything(profile)
        start_with_each_key(profile)
    finally:
        reads.stop()
    return log


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some members have no effect, or only part of it."""

    #: patterns of members
    members: tuple[str, ...]
    #: "none", "checked" or "shown": what is done with them at least
    kind: str
    reason: str


class Reasons:
    """All of them, the first that fits counts."""

    def __init__(self, entries: list[Reason]) -> None:
        self._entries = entries

    @staticmethod
    def load(path: Path = REASONS) -> Reasons:
        """Read the file."""
        return Reasons(
            [
                Reason(tuple(each["members"]), each["class"], each["reason"])
                for each in json.loads(path.read_text("utf-8"))
            ]
        )

    def unused(self, members: dict[str, dict[str, list[str]]]) -> list[str]:
        """The patterns of reasons for nothing at all; members of commands need not be listed."""
        return [
            pattern
            for entry in self._entries
            for pattern in entry.members
            if entry.kind != reads.NONE or pattern.startswith("-")
            if not any(fnmatchcase(member, pattern) for member in members)
        ]

    def of(self, member: str, kind: str) -> str | None:
        """Why `member` is only that far modelled; None if nobody has said."""
        least = reads.CLASSES.index(kind)
        for entry in self._entries:
            if reads.CLASSES.index(entry.kind) <= least and any(
                fnmatchcase(member, pattern) for pattern in entry.members
            ):
                return entry.reason
        return None
