import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal
from fakeqemu.model.runstate import InvalidTransitionError, RunState, transitions
from fakeqemu.profile import Profile


def runstate(profile="11.1"):
    journal = Journal(VirtualClock())
    return RunState(Profile.load(profile).traits, journal), journal


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_states_are_those_of_the_schema(profile):
    loaded = Profile.load(profile)
    table = transitions(loaded.traits)
    known = set(loaded.schema.enum_values("RunState")) - {"preconfig"}
    assert set(table) == known
    assert set().union(*table.values()) <= known


def test_change_is_journaled_and_heard():
    state, journal = runstate()
    heard = []
    state.listen(lambda old, new: heard.append((old, new)))
    state.set("running")
    state.set("running")
    assert heard == [("prelaunch", "running")]
    assert [(e.name, e.data) for e in journal.of("runstate")] == [
        ("running", {"old": "prelaunch"})
    ]


def test_change_outside_the_table():
    state, _ = runstate()
    with pytest.raises(InvalidTransitionError, match="'prelaunch' -> 'postmigrate'"):
        state.set("postmigrate")
    assert state.current == "prelaunch"


def test_suspended_guest_is_live_only_where_it_survives_a_stop():
    for profile, live in (("7.2", False), ("10.0", True)):
        state, _ = runstate(profile)
        state.set("running")
        state.set("suspended")
        assert state.live is live
        assert state.can("paused") is live
