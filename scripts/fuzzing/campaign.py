"""A campaign: sessions made from a seed, played against fresh machines, shrunk when one fails.

A session is a list of steps, JSON values, so that it can be written down, played again and cut.
"""

from __future__ import annotations

import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuzzing.findings import Finding

Step = Any

#: seconds that shrinking may take even when the time is over
_SHRINKING = 60.0


class Campaign(ABC):
    """One kind of input for one profile."""

    #: as the command line and reports call it
    name = ""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        #: index of the step that was played last
        self.reached = 0

    @abstractmethod
    def session(self, rng: random.Random) -> list[Step]:
        """One machine's worth of steps."""

    @abstractmethod
    def play(self, steps: Sequence[Step]) -> Finding | None:
        """Play the steps against a fresh machine; the first finding."""

    def simpler(self, step: Step) -> Iterator[Step]:  # noqa: ARG002
        """Steps that say less than this one, the shortest first."""
        yield from ()


@dataclass(slots=True)
class Case:
    """A finding with the smallest session that leads to it."""

    finding: Finding
    seed: str
    steps: list[Step]
    times: int = 1


@dataclass(slots=True)
class Report:
    """What a campaign did."""

    campaign: str
    profile: str
    seed: str
    sessions: int = 0
    inputs: int = 0
    seconds: float = 0.0
    cases: list[Case] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it is written into a file."""
        return {
            "campaign": self.campaign,
            "profile": self.profile,
            "seed": self.seed,
            "sessions": self.sessions,
            "inputs": self.inputs,
            "seconds": round(self.seconds, 1),
            "findings": [
                {
                    "kind": case.finding.kind, "what": case.finding.what,
                    "detail": case.finding.detail, "seed": case.seed, "times": case.times,
                    "steps": case.steps,
                }
                for case in self.cases
            ],
        }  # fmt: skip


def run(campaign: Campaign, seed: str, *, until: float, sessions: int | None = None) -> Report:
    """Play sessions until a moment of `time.monotonic()`, or so many."""
    report = Report(campaign.name, campaign.profile, seed)
    began = time.monotonic()
    known: dict[tuple[str, str], Case] = {}
    while time.monotonic() < until and (sessions is None or report.sessions < sessions):
        name = f"{seed}/{campaign.name}/{campaign.profile}/{report.sessions}"
        steps = campaign.session(random.Random(name))
        report.sessions += 1
        report.inputs += len(steps)
        finding = campaign.play(steps)
        if finding is None:
            continue
        key = (finding.kind, finding.what)
        if key in known:
            known[key].times += 1
            continue
        budget = max(until, time.monotonic() + _SHRINKING)
        known[key] = Case(finding, name, shrink(campaign, steps, finding, until=budget))
        report.cases.append(known[key])
    report.seconds = time.monotonic() - began
    return report


def shrink(
    campaign: Campaign, steps: Sequence[Step], finding: Finding, *, until: float
) -> list[Step]:
    """The shortest session found by `until` that leads to the same finding."""

    def fails(tried: Sequence[Step]) -> bool:
        again = campaign.play(tried)
        return again is not None and (again.kind, again.what) == (finding.kind, finding.what)

    steps = list(steps)[: campaign.reached + 1]
    # most faults need no more than a step, and the first one may choose the machine
    for few in (steps[-1:], [steps[0], steps[-1]]):
        if len(few) < len(steps) and fails(few):
            steps = few
            break
    size = max(1, len(steps) // 2)
    while time.monotonic() < until:
        at, cut = 0, False
        while at < len(steps) and time.monotonic() < until:
            rest = steps[:at] + steps[at + size :]
            if rest and fails(rest):
                steps, cut = rest, True
            else:
                at += size
        if size == 1 and not cut:
            break
        size = max(1, size // 2)
    for index in range(len(steps)):
        found = True
        while found and time.monotonic() < until:
            found = False
            for each in campaign.simpler(steps[index]):
                if time.monotonic() >= until:
                    break
                tried = [*steps[:index], each, *steps[index + 1 :]]
                if fails(tried):
                    steps, found = tried, True
                    break
    return steps


def smaller_values(value: Any) -> Iterator[Any]:
    """JSON values that are a little less than this one: members left out, texts cut."""
    if isinstance(value, dict):
        for name in value:
            yield {key: each for key, each in value.items() if key != name}
        for name, each in value.items():
            for less in smaller_values(each):
                yield {**value, name: less}
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
        for index, each in enumerate(value):
            for less in smaller_values(each):
                yield [*value[:index], less, *value[index + 1 :]]
    elif isinstance(value, str) and len(value) > 1:
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]


def text_of(case: Case) -> str:
    """A case for people."""
    steps = "\n".join(f"    {json.dumps(step)[:2000]}" for step in case.steps)
    detail = "\n".join(f"    {line}" for line in case.finding.detail.splitlines()[-25:])
    return (
        f"{case.finding.kind}: {case.finding.what} ({case.times} times)\n"
        f"  seed {case.seed}, {len(case.steps)} step(s):\n{steps}\n"
        + (f"  detail:\n{detail}\n" if detail else "")
    )
