"""Processes that die of a signal, and one that becomes another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "fakeqemu", "run"]
QUIET = ["-machine", "none", "-nodefaults", "-display", "none"]
NEGOTIATE = {"execute": "qmp_capabilities"}


def run(profile, options, requests=(), flags=(), extra_environment=(), fds=()):
    """Run a process to its end with QMP on its standard input and output."""
    monitor = ["-qmp", "stdio"] if requests else []
    return subprocess.run(
        [*COMMAND, "--profile", profile, *flags, "--", *QUIET, *options, *monitor],
        input="".join(json.dumps(request) + "\n" for request in requests),
        env={**os.environ, "PYTHONPATH": str(ROOT), **dict(extra_environment)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        pass_fds=fds,
    )


def test_a_refused_early_value_aborts_as_posted():
    done = run("next", ["-incoming", "config:max-cpu-throttle=1"], flags=["--as-posted"])
    assert done.returncode == -6
    assert "Option max-cpu-throttle expects" in done.stderr


def test_the_parent_of_a_daemon_that_aborts_leaves_with_1():
    options = ["-daemonize", "-incoming", "config:max-cpu-throttle=1"]
    assert run("next", options, flags=["--as-posted"]).returncode == 1


def test_a_command_that_ends_the_process():
    requests = [NEGOTIATE, {"execute": "x-query-roms"}, {"execute": "query-status"}]
    done = run("11.1", ["-compat", "unstable-input=crash"], requests)
    assert done.returncode == -6
    # what it was asked last and next is not answered
    assert len(done.stdout.splitlines()) == 2


def migrate_by_exec(target, stream):
    parameters = {"mode": "cpr-exec", "cpr-exec-command": target}
    return [
        NEGOTIATE,
        {"execute": "migrate-set-parameters", "arguments": parameters},
        {"execute": "migrate", "arguments": {"uri": f"file:{stream}"}},
    ]


def test_exec_keeps_process_memory_and_state(tmp_path):
    told = tmp_path / "told"
    script = f"echo $$ $QEMU_CPR_EXEC_STATE >{told}; ls -l /proc/self/fd >>{told}; exit 3"
    memory = ["-m", "64", "-object", "memory-backend-memfd,id=ram0,size=64M,share=on"]
    memory += ["-machine", "memory-backend=ram0"]
    process = subprocess.Popen(
        [*COMMAND, "--profile", "11.1", "--", *QUIET, *memory, "-qmp", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdin is not None
    for request in migrate_by_exec(["/bin/sh", "-c", script], tmp_path / "f"):
        process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    assert process.wait(20) == 3
    process.stdin.close()
    first, *rest = told.read_text().splitlines()
    assert first.split()[0] == str(process.pid)
    assert any("memfd:QEMU_CPR_EXEC_STATE" in line for line in rest)
    assert any("memfd:ram0" in line for line in rest)


def test_the_new_process_finds_what_was_left():
    state = os.memfd_create("state")
    os.write(state, b"GARBAGE!")
    done = run("11.1", [], extra_environment=[("QEMU_CPR_EXEC_STATE", str(state))], fds=[state])
    os.close(state)
    assert done.returncode == 1
    assert "Not a migration stream (bad magic 47415242)" in done.stderr
