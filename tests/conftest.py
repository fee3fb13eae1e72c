"""What holds for every test of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fakeqemu.guard import Guard, line_of_bug
from fakeqemu.journal import JournalEntry
from fakeqemu.qapi.errors import InternalError

# a busy host is slow at everything, which says nothing about the tests; `ci` tries the same input
# each time, so that a change is what makes it fail
_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _ANY_SPEED)
settings.register_profile("ci", _ANY_SPEED, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True)
def bugs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[JournalEntry]]:
    """Bugs that machines of this process ran into; they fail the test unless it clears them."""
    found: list[JournalEntry] = []
    report = Guard.report

    def reporting(guard: Guard, bug: BaseException) -> InternalError:
        if found.append not in guard.listeners:
            guard.listeners.append(found.append)
        return report(guard, bug)

    monkeypatch.setattr(Guard, "report", reporting)
    yield found
    if found:
        traces = "\n".join(f"{line_of_bug(each)}\n{each.data['trace']}" for each in found)
        pytest.fail(traces, pytrace=False)
