"""What holds for every test of the project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fakeqemu.guard import Guard, line_of_bug
from fakeqemu.journal import Entry
from fakeqemu.qapi.errors import InternalError

# a busy host is slow at making input, too, which says nothing about the tests
settings.register_profile("fakeqemu", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fakeqemu")


@pytest.fixture(autouse=True)
def bugs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Entry]]:
    """Bugs that machines of this process ran into; they fail the test unless it clears them."""
    found: list[Entry] = []
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
