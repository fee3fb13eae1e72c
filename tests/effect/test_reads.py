"""The debug mode that notes which members of accepted input are read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.registry import COMMANDS, Command
from fakeqemu.model.machine import Machine
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.dispatch import dispatcher_of


@pytest.fixture
def log() -> Iterator[reads.Log]:
    yield reads.start()
    reads.stop()


def start(*argv: str) -> Machine:
    profile = Profile.load("10.0")
    configuration = parse_command_line(["-nodefaults", "-display", "none", *argv], profile)
    boot = Boot.of(configuration, profile, VirtualClock(), NullHost())
    for _ in boot.run():
        pass
    boot.finish()
    return boot.vm


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, function: object, **more: bool) -> None:
    """Let `function` answer command `name`."""
    command = Command(name, function, **more)  # type: ignore[arg-type]
    original = type(COMMANDS).get
    monkeypatch.setattr(
        type(COMMANDS), "get",
        lambda table, key: command if key == name and table is COMMANDS else original(table, key),
    )


def test_a_command_that_ignores_an_argument_is_found(log, monkeypatch):
    def lazy(vm: Machine, name: str, up: bool) -> None:
        vm.journal.note("test", name)

    replaced(monkeypatch, "set_link", lazy)
    dispatcher_of(start("-machine", "none")).execute("set_link", {"name": "a", "up": True})

    assert log.classes()["set_link name"] == reads.EFFECT
    assert log.classes()["set_link up"] == reads.NONE


def test_a_copy_is_no_read_and_a_later_look_is_one(log, monkeypatch):
    kept: dict[str, object] = {}

    def lazy(vm: Machine, arguments: dict[str, object]) -> None:
        kept.update({**arguments})
        assert kept["up"]

    replaced(monkeypatch, "set_link", lazy, raw=True)
    dispatcher_of(start("-machine", "none")).execute("set_link", {"name": "a", "up": True})
    assert log.classes()["set_link name"] == reads.NONE
    assert log.classes()["set_link up"] == reads.EFFECT

    assert kept["name"] == "a"
    assert log.classes()["set_link name"] == reads.EFFECT


def test_nested_members_and_variants_have_paths(log):
    vm = start("-machine", "none")
    dispatcher_of(vm).execute(
        "blockdev-add",
        {"driver": "raw", "node-name": "a", "file": {"driver": "null-co", "size": 4096}},
    )

    assert {"blockdev-add driver", "blockdev-add {raw}.file", "blockdev-add {null-co}.size"} <= (
        log.accepted
    )
    assert log.classes()["blockdev-add {null-co}.size"] == reads.EFFECT


def test_what_is_refused_was_not_accepted(log):
    with pytest.raises(QapiError):
        dispatcher_of(start("-machine", "none")).execute(
            "object-add", {"qom-type": "iothread", "id": "a", "poll-max-ns": -1}
        )

    assert not any(member.startswith("object-add") for member in log.accepted)


def test_a_property_that_only_queries_show_is_shown(log):
    vm = start("-machine", "none", "-object", "iothread,id=a,poll-max-ns=5")

    assert log.classes()["object-add {iothread}.poll-max-ns"] == reads.SHOWN
    assert dispatcher_of(vm).execute(
        "qom-get", {"path": "/objects/a", "property": "poll-max-ns"}
    ) == 5


def test_a_check_is_no_effect(log, monkeypatch):
    def check_it(arguments: dict[str, object]) -> None:
        assert arguments["up"]

    replaced(monkeypatch, "set_link", lambda vm, arguments: check_it(arguments), raw=True)
    dispatcher_of(start("-machine", "none")).execute("set_link", {"name": "a", "up": True})

    assert log.classes()["set_link up"] == reads.CHECKED


def test_options_in_groups_are_followed_to_the_step_that_reads_them(log):
    start("-machine", "none", "-chardev", "ringbuf,id=a,size=1024")

    assert log.classes()["-chardev {ringbuf}.size"] == reads.EFFECT


def test_a_process_adds_its_account_to_the_file(tmp_path):
    account = tmp_path / "reads"
    said = [{"execute": "qmp_capabilities"}, {"execute": "quit"}]
    subprocess.run(
        [sys.executable, "-m", "fakeqemu", "run", "--profile", "10.0", "--", "-machine", "none",
         "-nodefaults", "-display", "none", "-chardev", "stdio,id=c", "-qmp", "chardev:c"],
        env={**os.environ, reads.VARIABLE: str(account)},
        input="".join(map(json.dumps, said)),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=50,
    )

    lines = [json.loads(line) for line in account.read_text("utf-8").splitlines()]
    assert {"member": "-chardev backend", "class": reads.EFFECT} in lines


def test_nothing_is_noted_unless_asked_for():
    assert reads.log is None
    vm = start("-machine", "none")
    dispatcher_of(vm).execute("object-add", {"qom-type": "iothread", "id": "a"})
    obj = vm.objects.get("a")
    assert obj is not None
    assert not isinstance(obj.values, reads.Watched)
