"""Events to the clients: form, who hears them, how often."""

from __future__ import annotations

import pytest

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.profile import Profile
from fakeqemu.qapi.json.writer import encode_short as encode
from fakeqemu.qmp import session
from fakeqemu.qmp.events import limits_of


def names(client):
    return [event["event"] for event in client.take()]


def test_form(vm, client):
    vm.clock.advance(1_234_567_000)
    vm.events.emit("RESET", {"guest": False, "reason": "host-signal"})
    line = b"".join(client.out).decode()
    assert line == (
        '{"timestamp": {"seconds": 1700000001, "microseconds": 234567}, "event": "RESET", '
        '"data": {"guest": false, "reason": "host-signal"}}\r\n'
    )


def test_only_those_who_negotiated_hear(vm, client, connect):
    deaf = connect(vm)
    vm.events.emit("STOP")
    assert names(client) == ["STOP"]
    assert names(deaf) == []
    client.session.close()
    vm.events.emit("STOP")
    assert names(client) == []


def test_all_clients_get_one_text(vm, client, connect, monkeypatch):
    others = [connect(vm) for _ in range(2)]
    for other in others:
        other.send({"execute": "qmp_capabilities"})
        other.take()
    client.take()
    written = []
    monkeypatch.setattr(
        session, "encode_short", lambda message: written.append(message.text) or encode(message)
    )
    vm.events.emit("STOP")
    first = b"".join(client.out)
    assert first == b"".join(others[0].out) == b"".join(others[1].out)
    assert b'"STOP"' in first
    assert written == ["", first.decode().rstrip(), first.decode().rstrip()]


def test_one_a_second_and_the_last_of_the_rest(vm, client):
    for actual in (1, 2, 3):
        vm.events.emit("BALLOON_CHANGE", {"actual": actual})
    assert [event["data"]["actual"] for event in client.take()] == [1]
    vm.clock.advance(999 * MILLISECOND)
    assert client.take() == []
    vm.clock.advance(MILLISECOND)
    (late,) = client.take()
    assert late["data"] == {"actual": 3}
    # the time is that of the event, not of its sending
    assert late["timestamp"] == {"seconds": 1_700_000_000, "microseconds": 0}
    vm.events.emit("BALLOON_CHANGE", {"actual": 4})
    assert client.take() == []
    vm.clock.advance(SECOND)
    assert [event["data"]["actual"] for event in client.take()] == [4]
    vm.clock.advance(SECOND)
    vm.events.emit("BALLOON_CHANGE", {"actual": 5})
    assert [event["data"]["actual"] for event in client.take()] == [5]


def test_each_port_has_its_own_limit(vm, client):
    for id in ("a", "b", "a"):
        vm.events.emit("VSERPORT_CHANGE", {"id": id, "open": True})
    assert [event["data"]["id"] for event in client.take()] == ["a", "b"]


def test_an_error_that_stops_the_machine_is_never_held_back(vm, client):
    data = {"device": "", "qom-path": "/x", "operation": "read", "reason": "r"}
    for action in ("report", "report", "stop", "stop"):
        vm.events.emit("BLOCK_IO_ERROR", {**data, "action": action})
    assert [event["data"]["action"] for event in client.take()] == ["report", "stop", "stop"]


@pytest.mark.parametrize("version", Profile.names())
def test_limits_are_of_events_that_exist(version):
    profile = Profile.load(version)
    limits = limits_of(profile)
    assert limits
    for name, limit in limits.items():
        members = {member.name for member in profile.schema.events[name].arg_type.members}
        assert limit.key is None or limit.key in members
        assert limit.unless is None or limit.unless[0] in members
