"""A client's conversation: negotiation, queue, out-of-band, hang-up."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.session import TRANSITIONS, SessionState

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
    client.session.close()
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
    session.receive(b'{"execute":"query-name"}', fds=(100, 101))
    session.receive(b'{"execute":"query-name"}')
    assert session.take_fd() == 100
    session.receive(b"\n", fds=(102,))
    assert session.take_fd() == 102
    assert session.take_fd() is None


def test_closed_is_the_end():
    assert {after for (state, _), after in TRANSITIONS.items() if state is SessionState.CLOSED} == {
        SessionState.CLOSED
    }


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_bytes_and_then_a_good_command(make_vm, connect, pieces, oob):
    for version in ("10.0", "11.1"):
        client = connect(make_vm(version))
        client.negotiate(*(["oob"] if oob else []))
        for piece in pieces:
            client.session.receive(piece)
        client.send(b"\xff\n\xff\n")
        assert client.send({**NAME, "id": "sync"}) == [{"return": {}, "id": "sync"}]
