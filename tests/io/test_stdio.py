"""A start with whatever is, or is not, standard input and output; as a real one took each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.io.process.launcher import write_launcher
from fakeqemu.profile import Profile

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
#: options that take standard input, with what stands before a message about it
TAKERS = {
    ("-nographic",): "",
    ("-monitor", "stdio"): "-monitor stdio: ",
    ("-qmp", "stdio"): "-qmp stdio: ",
    ("-serial", "stdio"): "-serial stdio: ",
    ("-serial", "mon:stdio"): "-serial mon:stdio: ",
    ("-chardev", "stdio,id=c"): "-chardev stdio,id=c: ",
}
taking = pytest.mark.parametrize("options", TAKERS, ids=" ".join)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    return str(write_launcher(str(folder), "qemu-system-x86_64", "10.0", ["--check-replies"]))


def run(
    emulator: str, *options: str, redirect: str = "", timeout: float = 50
) -> subprocess.CompletedProcess[str]:
    """Run it by a shell that redirects, until it ends."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirect}', emulator, *options],
        capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def machine(options: tuple[str, ...]) -> tuple[str, ...]:
    return ("-machine", "none", *options) if options == ("-nographic",) else (*NONE, *options)


@taking
def test_input_at_its_end_ends_nothing(emulator: str, options: tuple[str, ...]) -> None:
    """The machine is served by its other monitor, which ends it."""
    ours, theirs = os.pipe()
    quit = b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
    os.write(theirs, quit)
    done = subprocess.run(
        [
            emulator, *machine(options),
            "-chardev", f"pipe,id=q,path=/dev/fd/{ours}", "-mon", "chardev=q,mode=control",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False,
        pass_fds=[ours],
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


@taking
def test_closed_input_is_named(emulator: str, options: tuple[str, ...]) -> None:
    done = run(emulator, *machine(options), redirect="<&-")
    assert done.returncode == 1
    first = f"qemu-system-x86_64: {TAKERS[options]}Failed to set FD nonblocking: "
    assert done.stderr.startswith(f"{first}Bad file descriptor\n")
    assert done.stdout == ""


def test_closed_input_is_as_silence_in_newer_versions(tmp_path: Path) -> None:
    emulator = str(write_launcher(str(tmp_path), "qemu-system-x86_64", "11.1"))
    (tmp_path / "q.in").write_text('{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
    (tmp_path / "q.out").touch()
    done = run(
        emulator, *NONE, "-monitor", "stdio", "-chardev", f"pipe,id=q,path={tmp_path}/q",
        "-mon", "chardev=q,mode=control", redirect="<&-",
    )  # fmt: skip
    assert done.returncode == 0
    assert "Bad file descriptor" not in done.stderr
    assert done.stdout.endswith("(qemu) ")


def test_no_file_of_ours_takes_the_place_of_closed_input() -> None:
    code = (
        "import os; from fakeqemu.io.chardev.stdio import occupy_closed; occupy_closed();"
        "print(os.readlink('/proc/self/fd/0'), os.open('/', os.O_RDONLY) > 2)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, code],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("/dev/null True\n", "")


def test_a_file_of_commands_is_carried_out(emulator: str, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.write_text("info status\nquit\n")
    done = run(emulator, *NONE, "-monitor", "stdio", redirect=f"<{commands}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nVM status: running\n(qemu) " in done.stdout


def test_a_file_of_qmp_is_answered(emulator: str, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    lines = [{"execute": "qmp_capabilities"}, {"execute": "query-status"}, {"execute": "quit"}]
    commands.write_text("\n".join(json.dumps(line) for line in lines))
    done = run(emulator, *NONE, "-qmp", "stdio", redirect=f"<{commands}")
    assert (done.returncode, done.stderr) == (0, "")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert "QMP" in said[0]
    assert said[1:3] == [{"return": {}}, {"return": {"running": True, "status": "running"}}]
    assert said[3]["event"] == "SHUTDOWN"
    assert said[4:] == [{"return": {}}]


def test_a_directory_as_input_is_as_nothing(emulator: str, tmp_path: Path) -> None:
    (tmp_path / "q.in").write_text('{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
    (tmp_path / "q.out").touch()
    done = run(
        emulator, *NONE, "-monitor", "stdio", "-chardev", f"pipe,id=q,path={tmp_path}/q",
        "-mon", "chardev=q,mode=control", redirect=f"<{tmp_path}",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("(qemu) ")


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_nobody_reads_the_version(emulator: str, redirect: str) -> None:
    done = run(emulator, "--version", redirect=redirect)
    assert (done.returncode, done.stderr) == (0, "")


def test_messages_into_nothing(emulator: str) -> None:
    done = run(emulator, "-machine", "nonesuch", redirect="2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_events_are_printed_after_the_end_of_input(emulator: str) -> None:
    """And two signals at once, as timeout(1) sends them, are one."""
    process = subprocess.Popen(
        [emulator, *NONE, "-qmp", "stdio"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"execute": "qmp_capabilities"}{"execute": "stop"}{"execute"')
    process.stdin.close()
    for sent in ("QMP", "return", "event", "return"):
        assert sent in json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    event = json.loads(process.stdout.readline())
    assert event["event"] == "SHUTDOWN"
    assert event["data"] == {"guest": False, "reason": "host-signal"}
    # already read from: communicate() would flush the closed input
    assert process.stdout.read() == ""
    assert process.stderr is not None
    assert process.stderr.read().count("terminating on signal 15") == 1
    assert process.wait(50) == 0
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("option", ["-chardev", "-netdev", "-nic", "-vga", "-device", "-machine"])
def test_help_of_an_option(profile: str, option: str) -> None:
    """Some of them are printed only while the machine is being made."""
    command = [sys.executable, "-m", "fakeqemu", "run", "--profile", profile, "--", option, "help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    texts = Profile.load(profile).part("help")
    known = texts.get(f"{option} help")
    if known is None:
        assert done.returncode == 1
    else:
        assert (done.stdout, done.stderr, done.returncode) == (known, "", 0)
