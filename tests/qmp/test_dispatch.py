"""Commands: checks in order, journal, policies, phases."""

from __future__ import annotations

import pytest

from fakeqemu.commands.registry import Deferred
from fakeqemu.qapi.errors import CommandNotFoundError, NotModelledError
from fakeqemu.qmp.dispatch import dispatcher_of


def desc(reply):
    return reply[0]["error"]["desc"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"[]", "QMP input must be a JSON object"),
        (b"{}", "QMP input lacks member 'execute'"),
        (b'{"execute":true}', "QMP input member 'execute' must be a string"),
        (b'{"execute":"x","arguments":[]}', "QMP input member 'arguments' must be an object"),
        (b'{"execute":"x","extra":1}', "QMP input member 'extra' is unexpected"),
        (b'{"exec-oob":"x"}', "QMP input member 'exec-oob' is unexpected"),
        (b'{"execute":"n\\u00f6pe"}', "The command n\u00f6pe has not been found"),
        (b'{"execute":"device_del","arguments":{}}', "Parameter 'id' is missing"),
        (b'{"execute":"device_del","arguments":{"id":"x"}}', "Device 'x' not found"),
        (b'{"execute":"query-cpus-fast"}', "fakeqemu does not model 'query-cpus-fast'"),
    ],
)
def test_refusals(client, message, text):
    assert desc(client.send(message)) == text


def test_both_ways_of_asking_at_once(vm, connect):
    client = connect(vm).negotiate("oob")
    reply = client.send({"exec-oob": "query-yank", "execute": "query-yank"})
    assert desc(reply) == "QMP input member 'execute' clashes with 'exec-oob'"


def test_the_journal_tells_all(vm, client):
    client.send(
        {"execute": "query-kvm"},
        {"execute": "device_del", "arguments": {"id": "x"}},
        {"execute": "query-cpus-fast"},
    )
    told = [(entry.kind, entry.name) for entry in vm.journal]
    assert told == [
        ("command", "query-kvm"),
        ("reply", "query-kvm"),
        ("command", "device_del"),
        ("error", "device_del"),
        ("command", "query-cpus-fast"),
        ("not-modelled", "query-cpus-fast"),
    ]
    assert vm.journal.of("command", "device_del")[0].data["arguments"] == {"id": "x"}
    assert vm.journal.of("error")[0].data == {
        "error_class": "DeviceNotFound",
        "desc": "Device 'x' not found",
    }


def test_execute_without_a_client(vm, stubs):
    dispatcher = dispatcher_of(vm)
    assert dispatcher.execute("query-kvm") == {"enabled": False, "present": True}
    with pytest.raises(CommandNotFoundError):
        dispatcher.execute("no-such")
    with pytest.raises(NotModelledError):
        dispatcher.execute("query-cpus-fast")
    later = dispatcher.execute("block_resize", {"size": 1, "node-name": "n"})
    assert isinstance(later, Deferred)
    assert stubs.calls == [{"size": 1, "node_name": "n"}]
    stubs.blocked[0].resolve()
    assert later.value == {}
    assert vm.journal.of("reply", "block_resize")


def test_events_come_before_the_reply(client):
    event, reply = client.send({"execute": "stop"})
    assert event["event"] == "STOP"
    assert "data" not in event
    assert reply == {"return": {}}


def test_preconfig(vm, client):
    vm.preconfig = True
    assert desc(client.send({"execute": "stop"})) == (
        "The command 'stop' is permitted only after machine initialization has completed"
    )
    assert client.send({"execute": "query-name"}) == [{"return": {}}]
    assert desc(client.send({"execute": "nope"})) == "The command nope has not been found"


def test_a_bug_of_ours_is_in_the_journal_and_not_in_the_reply(vm, client, bugs):
    reply = client.send({"execute": "balloon", "arguments": {"value": 1}})
    assert desc(reply) == "internal error of fakeqemu"
    (bug,) = vm.journal.of("bug", "RuntimeError")
    assert "broken on purpose" in bug.data["trace"]
    assert bug.data["place"].endswith("(balloon)")
    assert client.send({"execute": "query-name"}) == [{"return": {}}]
    bugs.clear()


def test_a_reply_that_is_no_json_is_an_error_and_the_next_is_answered(vm, client, stubs, bugs):
    stubs.values["query-kvm"] = {"enabled": object()}
    (reply,) = client.send({"execute": "query-kvm", "id": 1})
    assert reply["id"] == 1
    assert desc([reply]) == "internal error of fakeqemu"
    assert client.send({"execute": "query-name"}) == [{"return": {}}]
    bugs.clear()


def test_a_late_reply_that_cannot_be_noted_is_an_error(vm, client, stubs, bugs):
    def refuse(entry):
        if entry.kind == "reply" and entry.name == "block_resize":
            raise RecursionError("too deep")

    vm.journal.listen(refuse)
    assert client.send({"execute": "block_resize", "arguments": {"size": 1}}) == []
    stubs.blocked[0].resolve()
    assert desc(client.take()) == "internal error of fakeqemu"
    assert client.send({"execute": "query-name"}) == [{"return": {}}]
    bugs.clear()


def test_compat_reject(make_vm, connect):
    compat = {"deprecated-input": "reject", "unstable-input": "reject"}
    client = connect(make_vm(compat=compat)).negotiate()
    reply = client.send({"execute": "drive-backup", "arguments": {"device": 1}})
    assert reply[0]["error"] == {
        "class": "CommandNotFound",
        "desc": "Deprecated command drive-backup disabled by policy",
    }
    assert desc(client.send({"execute": "x-query-irq"})) == (
        "Unstable command x-query-irq disabled by policy"
    )


def test_compat_crash(make_vm, connect):
    vm = make_vm(compat={"deprecated-input": "crash"})
    client = connect(vm).negotiate()
    assert client.send({"execute": "drive-backup"}) == []
    assert vm.process.exit_code == -6


def test_compat_hide(make_vm, connect):
    vm = make_vm("7.2", compat={"deprecated-output": "hide"})
    client = connect(vm).negotiate()
    vm.events.emit("MEM_UNPLUG_ERROR", {"device": "d", "msg": "m"})
    vm.events.emit("STOP")
    assert [event["event"] for event in client.take()] == ["STOP"]


def test_errors_know_their_class(client):
    reply = client.send({"execute": "device_del", "arguments": {"id": "q"}})
    assert reply[0]["error"]["class"] == "DeviceNotFound"
