"""Options of those who look into QEMU itself, and of what the process does about itself."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.io.process import privileges
from fakeqemu.model.null_host import NullHost
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qmp.dispatch import dispatcher_of


class NoFiles(NullHost):
    """A host on which nothing can be read."""

    def file_error(self, path: str) -> str | None:
        return f"{path}: No such file or directory"


def start(version: str, *argv: str, host: NullHost | None = None) -> Any:
    profile = Profile.load(version)
    configuration = parse_command_line(
        ["-machine", "none", "-display", "none", *argv], profile
    )
    boot = Boot.of(configuration, profile, VirtualClock(), host or NullHost())
    for _ in boot.run():
        pass
    boot.finish()
    return boot.vm


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("7.2", "could not read keymap file: 'zz'"),
        ("10.0", "could not read keymap file: 'zz'"),
        ("11.1", "could not find keymap file for language 'zz'"),
    ],
)
def test_a_keyboard_layout_that_is_not_there(version: str, text: str) -> None:
    with pytest.raises(StartupError) as found:
        start(version, "-k", "zz", "-vnc", "none", host=NoFiles())
    assert found.value.message == f"-vnc none: {text}"
    start(version, "-k", "zz", host=NoFiles())
    start(version, "-k", "de", "-vnc", "none", host=NoFiles())
    start(version, "-k", "zz", "-vnc", "none", host=NullHost())


def test_single_steps_are_shown() -> None:
    vm = start("7.2", "-singlestep")
    assert dispatcher_of(vm).execute("query-status", None)["singlestep"] is True
    human = HmpMonitor()
    assert run_hmp(vm, human, "info status") == "VM status: running (single step mode)\n"
    assert run_hmp(vm, human, "singlestep off") == ""
    assert run_hmp(vm, human, "info status") == "VM status: running\n"
    assert run_hmp(vm, human, "singlestep x") == "unexpected option x\n"


@pytest.mark.parametrize(
    ("version", "refusal"),
    [
        ("7.2", "Invalid parameter 'x'"),
        ("11.1", "invalid parameter 'x', expecting 'on', 'off', or 'reset'"),
    ],
)
def test_the_profile_of_locks(version: str, refusal: str) -> None:
    human = HmpMonitor()
    assert run_hmp(start(version), human, "sync-profile") == "sync-profile is off\n"
    vm = start(version, "-enable-sync-profile")
    assert run_hmp(vm, human, "sync-profile") == "sync-profile is on\n"
    run_hmp(vm, human, "sync-profile off")
    run_hmp(vm, human, "sync-profile reset")
    assert run_hmp(vm, human, "sync-profile") == "sync-profile is off\n"
    assert refusal in run_hmp(vm, human, "sync-profile x")


def test_a_user_that_the_process_may_not_become(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgid", refuse)
    with pytest.raises(QapiError, match=re.escape("Failed to setgid(7)")):
        privileges.become("5:7")
    monkeypatch.setattr(os, "setgid", lambda _: None)
    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(QapiError, match=re.escape("Failed to setgroups(1, [7])")):
        privileges.become("5:7")
    monkeypatch.setattr(os, "setgroups", lambda _: None)
    monkeypatch.setattr(os, "setuid", refuse)
    with pytest.raises(QapiError, match=re.escape("Failed to setuid(5)")):
        privileges.become("5:7")
    monkeypatch.setattr(os, "setuid", lambda _: None)
    with pytest.raises(QapiError, match="Dropping privileges failed"):
        privileges.become("5:7")


def test_a_root_of_its_own_is_not_modelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(NotModelledError):
        privileges.refuse_root(str(tmp_path))
    with pytest.raises(QapiError, match="chroot failed"):
        privileges.refuse_root(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("version", "lock", "flags"), [("7.2", "on", 3), ("11.1", "on", 3), ("11.1", "on-fault", 7)]
)
def test_memory_that_may_not_be_locked(
    monkeypatch: pytest.MonkeyPatch, version: str, lock: str, flags: int
) -> None:
    wanted: list[int] = []

    class Library:
        def mlockall(self, given: int) -> int:
            wanted.append(given)
            ctypes.set_errno(errno.ENOMEM)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())
    profile = Profile.load(version)
    privileges.prepare(parse_command_line(["-overcommit", "mem-lock=off"], profile))
    assert not wanted
    with pytest.raises(StartupError, match="locking memory failed") as found:
        privileges.prepare(parse_command_line(["-overcommit", f"mem-lock={lock}"], profile))
    assert wanted == [flags]
    assert found.value.earlier == ("mlockall: Cannot allocate memory",)


def test_a_process_that_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    class Library:
        def prctl(self, *given: int) -> int:
            calls.append(given)
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())
    profile = Profile.load("11.1")
    privileges.prepare(parse_command_line(["-run-with", "exit-with-parent=off"], profile))
    assert not calls
    privileges.prepare(parse_command_line(["-run-with", "exit-with-parent=on"], profile))
    assert calls == [(1, signal.SIGTERM, 0, 0, 0)]
