"""The tables of states: what holds for which version, and the page that is drawn from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.journal import Journal
from fakeqemu.migration import state
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.profile import Profile

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("7.2", "10.0", "11.1")


def test_the_page_is_not_stale():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_state_diagrams", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("table", [state.OUTGOING, state.INCOMING])
def test_every_state_of_a_version_can_be_reached_and_left(version, table):
    profile = Profile.load(version)
    rows = state.rows(table, profile.traits, schemainfo.statuses(profile))
    reached, old = {"none"}, set()
    while old != reached:
        old = set(reached)
        reached |= {row.new for row in rows if row.old in old}
    assert reached == {row.old for row in rows} | {row.new for row in rows}
    ends = reached - {row.old for row in rows}
    assert ends <= {"completed", "failed", "cancelled"}


def test_versions_differ_where_they_should():
    def pairs(version: str) -> set[tuple[str, str]]:
        profile = Profile.load(version)
        rows = state.rows(state.OUTGOING, profile.traits, schemainfo.statuses(profile))
        return {(row.old, row.new) for row in rows}

    old, middle, new = map(pairs, VERSIONS)
    assert ("active", "postcopy-active") in old - middle
    assert ("device", "postcopy-active") in middle - old
    assert ("postcopy-device", "postcopy-active") in new - middle
    assert ("postcopy-paused", "postcopy-recover") in old - middle
    assert ("active", "failed") in middle - new


def test_a_change_outside_the_table_is_refused_and_changes_nothing(clock):
    told: list[str] = []
    rows = [state.Change("none", "setup", "migrate")]
    status = state.Status("outgoing", rows, Journal(clock), told.append)
    with pytest.raises(RuntimeError, match="'none' -> 'active'"):
        status.move("active")
    assert (status.current, told) == ("none", [])
    status.move("setup")
    assert (status.current, told) == ("setup", ["setup"])
