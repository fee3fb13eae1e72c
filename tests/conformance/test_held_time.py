"""Time that is held: nothing ends because the commands sent meanwhile took long."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from conform.forked import launch  # noqa: E402
from conform.play import Play  # noqa: E402

#: so many take several times as long by the wall as the migration lasts
_MANY = 300


async def test_a_migration_lasts_while_commands_are_sent_and_ends_while_a_step_waits(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent.parent))
    query = {"execute": "query-migrate"}
    migrate = {"execute": "migrate", "arguments": {"uri": "file:${dir}/f"}}
    scenario = {
        "steps": [
            {"start": "src", "argv": ["-machine", "none"]},
            {"connect": "src"},
            {"send": migrate, "on": "src"},
            *[{"send": query, "on": "src"}] * _MANY,
            {"poll": query, "on": "src", "until": {"status": ["completed"]}},
            {"send": {"execute": "quit"}, "on": "src"},
            {"exit": "src"},
        ]
    }
    command = [sys.executable, "-m", "fakeqemu", "run", "--profile", "10.0", "--"]
    observed = await Play(scenario, command, launch, holds_time=True).run()

    sent, polled, _, ended = observed[3 : 3 + _MANY], *observed[3 + _MANY :]
    assert {each["return"]["status"] for each in sent} <= {"setup", "active"}
    assert polled["return"]["status"] == "completed"
    assert ended["code"] == 0
