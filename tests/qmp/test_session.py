"""A client's conversation: negotiation, queue, out-of-band, hang-up."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.streamer import Value
from fakeqemu.qmp.session import TRANSITIONS, Line, QmpSession, Reading, SessionState

BLOCK = {"execute": "block_resize", "arguments": {"size": 1, "device": "d"}, "id": "slow"}
NAME = {"execute": "query-name"}


def error(desc, id=None, klass="GenericError"):
    return {"error": {"class": klass, "desc": desc}} | ({"id": id} if id is not None else {})


def test_greeting(vm, connect):
    greeting = connect(vm).greeting["QMP"]
    assert greeting["capabilities"] == ["oob"]
    assert greeting["version"]["qemu"]["major"] == 10
    assert connect(vm, offers_oob=False).greeting["QMP"]["capabilities"] == []


def test_nothing_but_negotiation_at_first(vm, connect):
    client = connect(vm)
    expecting = error(
        "Expecting capabilities negotiation with 'qmp_capabilities'", klass="CommandNotFound"
    )
    assert client.send(NAME) == [expecting]
    assert client.send({"execute": "no-such"}) == [expecting]
    vm.events.emit("STOP")
    assert client.send({"execute": "qmp_capabilities", "arguments": {"enable": ["nonsense"]}}) == [
        error("Parameter 'null' does not accept value 'nonsense'")
    ]
    assert client.send(NAME) == [expecting]
    client.negotiate()
    assert client.send({"execute": "qmp_capabilities"}) == [
        error(
            "Capabilities negotiation is already complete, command ignored",
            klass="CommandNotFound",
        )
    ]


def test_oob_where_it_is_not_offered(vm, connect):
    client = connect(vm, offers_oob=False)
    reply = client.send({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})
    assert reply == [error("Capability oob not available")]


def test_what_follows_negotiation_in_one_piece_sees_its_outcome(vm, connect):
    client = connect(vm)
    assert client.send(
        {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}},
        {"exec-oob": "query-yank", "id": 1},
        {"execute": "query-name", "id": 2},
    ) == [{"return": {}}, {"return": [], "id": 1}, {"return": {}, "id": 2}]


def test_ids_of_any_kind_come_back(client):
    for id in (None, 0, "", [1, {"a": None}], {"b": [1.5]}, False):
        assert client.send({**NAME, "id": id}) == [{"return": {}, "id": id}]
        assert client.send({"execute": "x", "id": id})[0]["id"] == id


def test_requests_wait_for_a_slow_one(vm, stubs, client, connect):
    other = connect(vm).negotiate()
    assert client.send(BLOCK, {**NAME, "id": 1}) == []
    assert other.send({**NAME, "id": 2}) == []
    assert client.pauses == [True]
    stubs.blocked[0].resolve()
    assert client.take() == [{"return": {}, "id": "slow"}, {"return": {}, "id": 1}]
    assert other.take() == [{"return": {}, "id": 2}]
    assert client.pauses == [True, False]
    assert other.pauses == [True, False]


def test_oob_overtakes_a_slow_command(vm, stubs, connect):
    client = connect(vm).negotiate("oob")
    assert client.send(BLOCK, {**NAME, "id": 1}, {"exec-oob": "query-yank", "id": 2}) == [
        {"return": [], "id": 2}
    ]
    assert client.send({"exec-oob": "query-name", "id": 3}) == [
        error("The command query-name does not support OOB", 3)
    ]
    assert client.send(b"}") == []
    stubs.blocked[0].fail(QapiError("it failed"))
    assert client.take() == [
        error("it failed", "slow"),
        {"return": {}, "id": 1},
        error("JSON parse error, expecting value"),
    ]


def test_eight_requests_wait_then_reading_stops(vm, stubs, connect):
    client = connect(vm).negotiate("oob")
    client.send(BLOCK, *({**NAME, "id": number} for number in range(7)))
    assert client.pauses == []
    client.send({**NAME, "id": 7})
    assert client.pauses == [True]
    # not read until there is room
    assert client.send({"exec-oob": "query-yank", "id": "oob"}) == []
    stubs.blocked[0].resolve()
    replies = [reply["id"] for reply in client.take()]
    assert sorted(map(str, replies)) == sorted(["slow", "oob", *map(str, range(8))])
    assert [reply for reply in replies if isinstance(reply, int)] == list(range(8))
    assert client.pauses == [True, False]


def test_hundreds_at_once(client, connect, vm):
    many = [{**NAME, "id": number} for number in range(500)]
    expected = [{"return": {}, "id": number} for number in range(500)]
    assert client.send(*many) == expected
    assert connect(vm).negotiate("oob").send(*many) == expected


def test_what_was_sent_before_a_hang_up_is_done(vm, stubs, client):
    client.send(BLOCK, {"execute": "stop"})
    client.close()
    assert not vm.journal.of("event", "STOP")
    stubs.blocked[0].resolve()
    assert vm.journal.of("event", "STOP")
    assert client.take() == []
    assert client.session.state is SessionState.CLOSED


def test_requests_wait_for_the_main_loop(make_vm, connect):
    vm = make_vm(running=False)
    client = connect(vm)
    assert client.send({"execute": "qmp_capabilities"}, NAME) == []
    assert client.pauses == [True]
    vm.process.main_loop_started()
    assert client.take() == [{"return": {}}, {"return": {}}]
    assert client.pauses == [True, False]


def test_descriptors_stay_for_who_asks(client):
    session = client.session
    client.receive(b'{"execute":"query-name"}', fds=(100, 101))
    client.receive(b'{"execute":"query-name"}')
    assert session.take_fd() == 100
    client.receive(b"\n", fds=(102,))
    assert session.take_fd() == 102
    assert session.take_fd() is None


def test_closed_is_the_end():
    assert {after for (state, _), after in TRANSITIONS.items() if state is SessionState.CLOSED} == {
        SessionState.CLOSED
    }


@pytest.fixture
def machines(make_vm):
    """One for all examples: to make some takes longer than all else."""
    return [make_vm(version) for version in ("10.0", "11.1")]


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_and_then_a_good_command(machines, connect, pieces, oob):
    for vm in machines:
        client = connect(vm)
        client.negotiate(*(["oob"] if oob else []))
        for piece in pieces:
            client.receive(piece)
        client.send(b"\xff\n\xff\n")
        assert client.send({**NAME, "id": "sync"}) == [{"return": {}, "id": "sync"}]
        client.close()


def session_of_its_own():
    """A session that nobody but the test drives, greeted."""
    profile = Profile.load("10.0")
    session = QmpSession(profile.version, profile.traits)
    assert json.loads(session.start().data)["QMP"]
    return session


def test_a_session_is_bytes_in_and_bytes_out():
    session = session_of_its_own()
    session.receive(b'{"execute": "qmp_capab')
    assert session.read() is Reading.WAITING
    session.receive(b'ilities", "id": 1} {"execute": "query-name"}')
    assert session.read() is Reading.QUEUED
    # without oob the next one is read when this one is answered
    assert session.read() is Reading.WAITING
    assert session.suspended
    assert session.next_request() == Value({"execute": "qmp_capabilities", "id": 1})
    session.accept_capabilities(["oob"])
    line = session.send_reply({"return": {}, "id": 1}, "qmp_capabilities")
    assert line == Line(b'{"return": {}, "id": 1}\r\n', "qmp_capabilities")
    session.receive(b'{"exec-oob": "query-yank"}')
    assert session.read() is Reading.QUEUED
    assert session.read() == Value({"exec-oob": "query-yank"})
    assert session.next_request() == Value({"execute": "query-name"})
    session.close()
    assert session.finished


def test_nothing_is_read_while_a_long_reply_is_encoded():
    session = session_of_its_own()
    session.receive(b'{"execute": "qmp_capabilities"} {"execute": "query-name"}')
    assert session.read() is Reading.QUEUED
    assert session.next_request()
    assert session.send_reply({"return": [0] * 10_000}) is None
    assert session.send({"event": "STOP"}) is None, "behind the reply"
    assert session.unsent
    assert not session.has_input
    lines = []
    while session.unsent:
        lines += filter(None, [session.encode()])
    reply, event = (json.loads(line.data) for line in lines)
    assert (len(reply["return"]), event) == (10_000, {"event": "STOP"})
    assert session.has_input
    assert session.read() is Reading.QUEUED


def test_what_cannot_be_written_is_replaced_by_an_error():
    session = session_of_its_own()
    session.send({"return": object(), "id": 7}, "query-name")
    with pytest.raises(TypeError):
        session.encode()
    session.fail_encoding(QapiError("broken"))
    assert json.loads(session.encode().data) == error("broken", 7)
    assert not session.unsent
