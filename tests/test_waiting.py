"""Tests wait for what they need, not for a while."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
#: where the pauses between two looks at another process are, and the sleep of a recorded scenario
PAUSES = {
    "support/waiting.py": 2,
    "libvirt/accept/daemon.py": 1,
    "conformance/conform/session.py": 1,
    "conformance/conform/play.py": 1,
    # until a timer is due
    "io/test_loop.py": 1,
    # a manager as users write them, which asks again and again
    "examples/manager.py": 2,
}
_SLEEP = re.compile(r"\bsleep\((?!0\))")


def test_nothing_sleeps_in_place_of_waiting() -> None:
    found = {
        str(path.relative_to(HERE)): len(_SLEEP.findall(path.read_text()))
        for path in HERE.rglob("*.py")
        if path != Path(__file__)
    }
    assert {name: count for name, count in found.items() if count} == PAUSES
