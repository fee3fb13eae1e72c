"""What one proposal is: a named set of changes to a version, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.dataclass import dataclass, field

#: switch -> chosen value
Choices = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Switch:
    """An open question of the design, and its possible answers; the first one is the default."""

    values: tuple[str, ...]
    #: what is open, as a question
    question: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of the interface that was proposed and never released."""

    name: str
    #: one line
    summary: str
    #: "posted" as patches, or "described" in the thread
    status: str
    #: proposals that it makes no sense without
    requires: tuple[str, ...] = ()
    #: a trait that some other proposal has to set, and why
    needs: tuple[str, str] | None = None
    #: proposals that it contradicts -> the reason
    excludes: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, Switch] = field(default_factory=dict)
    #: the traits that it sets
    traits: Callable[[Choices], Mapping[str, Any]] = lambda _: {}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A proposal with its switches set."""

    proposal: Proposal
    #: every switch of the proposal
    choices: Choices

    @property
    def text(self) -> str:
        """As it is typed; switches that are at their default are left out."""
        said = [
            f":{name}={value}"
            for name, value in self.choices.items()
            if value != self.proposal.switches[name].values[0]
        ]
        return self.proposal.name + "".join(said)
