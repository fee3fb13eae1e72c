"""Does a test of a fault notice when the fault does nothing?

    pytest -p tests.support.without_faults tests/testing

runs each test with the faults that it adds turned into no-ops, in machines of the test's own
process. A test that fails then is right, and so is one that adds none; one that adds some and
passes checks nothing of them, and is reported as failed. Those of the snippets in docs/scenarios
pass: they add what tests/testing/test_scenarios.py has the effect of.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from fakeqemu.testing.faults.held_commands import Active
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.faults.model import Fault


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    added: set[str] = set()
    add = Faults.add_built

    def add_idle(faults: Faults, fault: Fault) -> Active:
        added.add(fault.name)
        # of another kind that does nothing by itself, so what happens at once does not
        active = add(faults, type("Idle", (Fault,), {"name": fault.name})())
        active.fault = fault
        return active

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Active, "strikes", lambda active: False)
        patch.setattr(Faults, "add_built", add_idle)
        outcome = yield
    if outcome.excinfo is not None:
        outcome.force_result(None)
    elif added:
        outcome.force_exception(AssertionError(f"passes although {sorted(added)} do nothing"))
