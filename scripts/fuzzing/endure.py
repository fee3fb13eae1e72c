"""What a host does to a machine: kills, limits, full disks, closed descriptors, many clients.

Each part returns how much it did and what was found. "Nothing left behind" means: no file but
those that were asked for, no descriptor, no process.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuzzing.configs import FILES
from fuzzing.findings import GROWTH, Finding, lost, python_text, stderr_text
from fuzzing.machine import BARE, DEADLINE, ROOT, Client, Gone, Late, Machine, limit, relative

Outcome = tuple[int, list[Finding]]

_ARGV = (
    "-machine", "q35", "-S", "-m", "64", *BARE, "-pidfile", "p.pid", "-vnc", "unix:v.sock",
    "-blockdev", "driver=raw,node-name=r0,file.driver=file,file.filename=d1.raw",
    "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=r0",
)  # fmt: skip
_COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("blockdev-create",
     {"job-id": "j", "options": {"driver": "file", "filename": "n.img", "size": 1 << 20}}),
    ("migrate", {"uri": "exec:cat > stream"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:dump"}),
    ("device_add", {"driver": "virtio-rng-pci"}),
    ("blockdev-snapshot-sync",
     {"node-name": "r0", "snapshot-node-name": "s", "snapshot-file": "s.qcow2"}),
]  # fmt: skip
#: what a machine that was ended may leave: what was asked for, and what QEMU leaves (VNC's socket)
_ASKED = {*FILES, "stderr", "n.img", "stream", "dump", "s.qcow2", "v.sock"}


def kills(profile: str, count: int, rng: random.Random) -> Outcome:
    """SIGKILL at a random moment, then the same command line in the same directory."""
    found: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, data in FILES.items():
            (place / name).write_bytes(data)
        for number in range(count):
            with Machine(profile, _ARGV, qmp=1, directory=place) as machine:
                if number % 2:
                    time.sleep(rng.random() * 0.4)
                    continue
                try:
                    client = machine.client()
                    command, arguments = rng.choice(_COMMANDS)
                    request = {"execute": command, "arguments": arguments}
                    client.send(json.dumps(request).encode())
                    time.sleep(rng.random() * 0.05)
                    client.close()
                except (Gone, Late) as error:
                    found.append(lost(machine, error, f"start {number}"))
        found += _last_start(profile, place)
    return count, found


def _last_start(profile: str, place: Path) -> list[Finding]:
    """After all kills it starts, answers, ends when asked to and leaves nothing."""
    with Machine(profile, _ARGV, qmp=1, directory=place) as machine:
        try:
            client = machine.client()
            client.ask("query-status")
            client.close()
        except (Gone, Late) as error:
            return [lost(machine, error, "start after the kills")]
        machine.process.send_signal(signal.SIGTERM)
        try:
            status = machine.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            return [Finding("no-answer", "SIGTERM")]
        left = {each.name for each in place.iterdir()} - _ASKED
        found = [Finding("left-behind", name) for name in sorted(left)]
        if status:
            found.append(Finding("death", f"exit status {status}", machine.stderr[-1000:]))
        if _group_lives(machine.process.pid):
            found.append(Finding("left-behind", "a process"))
        return found


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _set(kind: int, value: int) -> Callable[[], None]:
    def child() -> None:
        limit()
        resource.setrlimit(kind, (value, value))

    return child


def _closed(*descriptors: int) -> Callable[[], None]:
    def child() -> None:
        limit()
        for each in descriptors:
            os.close(each)

    return child


def _masked() -> None:
    limit()
    os.umask(0o77)


#: name -> what is done in the process before the program starts
CONDITIONS: dict[str, Callable[[], None]] = {
    "64 descriptors": _set(resource.RLIMIT_NOFILE, 64),
    "12 descriptors": _set(resource.RLIMIT_NOFILE, 12),
    "300 MiB of addresses": _set(resource.RLIMIT_AS, 300 << 20),
    "60 MiB of addresses": _set(resource.RLIMIT_AS, 60 << 20),
    "files of 4 KiB": _set(resource.RLIMIT_FSIZE, 4096),
    "no standard input": _closed(0),
    "no standard output": _closed(1),
    "no standard error": _closed(2),
    "no standard files": _closed(0, 1, 2),
    "umask 077": _masked,
}


def limits(profile: str, count: int, rng: random.Random) -> Outcome:  # noqa: ARG001
    """Few resources: the machine starts and answers, or says why not and ends."""
    found: list[Finding] = []
    for name, child in CONDITIONS.items():
        with Machine(profile, _ARGV, files=FILES, child=child) as machine:
            found += [Finding(each.kind, f"{name}: {each.what}", each.detail)
                      for each in _under(machine)]  # fmt: skip
    return len(CONDITIONS), found


def _under(machine: Machine) -> Iterator[Finding]:
    try:
        client, other = machine.client(), machine.client(1)
    except Late as error:
        # descriptors may be too few for a client; then it waits, and nothing is busy
        busy = machine.cpu()
        time.sleep(1)
        if machine.cpu() - busy > 0.5:
            yield Finding("hold", "spins", f"{machine.cpu() - busy:.2f} s in one second")
        machine.process.send_signal(signal.SIGTERM)
        try:
            machine.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            yield lost(machine, error, "SIGTERM")
        return
    except Gone as error:
        # to end with a message is an answer, too
        if machine.process.wait() < 0 or not machine.stderr:
            yield lost(machine, error, "start")
        return
    try:
        for number in range(80):
            address = {"type": "unix", "data": {"path": f"c{number}.sock"}}
            backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
            reply = client.ask("chardev-add", {"id": f"c{number}", "backend": backend})
            if (text := python_text(reply)) is not None:
                yield text
            if "error" in reply:
                break
        busy = machine.cpu()
        other.ask("query-status")
        time.sleep(1)
        if machine.cpu() - busy > 0.5:
            yield Finding("hold", "spins", f"{machine.cpu() - busy:.2f} s in one second")
        client.close()
        other.close()
    except (Gone, Late) as error:
        yield lost(machine, error, "chardev-add")
    if (found := stderr_text(machine)) is not None:
        yield found


@contextmanager
def _tiny(path: Path) -> Iterator[bool]:
    """A file system of 256 KiB at `path`; False where none may be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=False)


def disks(profile: str, count: int, rng: random.Random) -> Outcome:  # noqa: ARG001
    """A full file system and a read-only one: what writes says so, and the rest goes on."""
    done, found = 0, list[Finding]()
    for kind in ("full", "read-only"):
        argv = ("-machine", "q35", "-S", "-m", "64", *BARE)
        with Machine(profile, argv, qmp=1, files=FILES) as machine:
            place = machine.directory / "tiny"
            with _tiny(place) as mounted:
                if not mounted:
                    continue
                if kind == "full":
                    _fill(place / "fill")
                else:
                    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=False)
                number, faults = _write_all(machine)
                done, found = done + number, found + faults
                machine.close()
    return done, found


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def _write_all(machine: Machine) -> Outcome:
    create = {"driver": "file", "filename": "tiny/big", "size": 1 << 20, "preallocation": "full"}
    work: list[tuple[str, Any]] = [
        ("blockdev-create", {"job-id": "a", "options": create}),
        ("dump-guest-memory", {"paging": False, "protocol": "file:tiny/dump"}),
        ("screendump", {"filename": "tiny/s.ppm"}),
        ("pmemsave", {"val": 0, "size": 65536, "filename": "tiny/p"}),
        ("chardev-add", {"id": "z", "backend": {"type": "file", "data": {"out": "tiny/z"}}}),
        ("blockdev-add", {"driver": "file", "filename": "d1.raw", "node-name": "r1"}),
        ("blockdev-snapshot-sync",
         {"node-name": "r1", "snapshot-node-name": "s1", "snapshot-file": "tiny/s.qcow2"}),
        ("migrate", {"uri": "exec:cat > tiny/stream"}),
    ]  # fmt: skip
    found: list[Finding] = []
    try:
        client = machine.client()
        for command, arguments in work:
            reply = client.ask(command, arguments)
            if (text := python_text(reply, arguments)) is not None:
                found.append(text)
        time.sleep(0.5)
        for command in ("query-jobs", "query-migrate", "query-status"):
            reply = client.ask(command)
            if (text := python_text({"error": reply.get("return")})) is not None:
                found.append(Finding(text.kind, f"{command}: {text.what}", text.detail))
        client.close()
    except (Gone, Late) as error:
        found.append(lost(machine, error, "full disk"))
    if (trace := stderr_text(machine)) is not None:
        found.append(trace)
    return len(work), found


def connections(profile: str, count: int, rng: random.Random) -> Outcome:
    """Clients that come, say nothing or rubbish, and go."""
    with Machine(profile, ("-machine", "none", "-S", *BARE)) as machine:
        try:
            control = machine.client()
            for _ in range(200):
                machine.connect("q1.sock").close()
            control.ask("query-status")
            memory, descriptors = machine.memory(), machine.descriptors()
            for number in range(count):
                client = socket.socket(socket.AF_UNIX)
                client.connect(relative(machine.directory / "q1.sock"))
                if rng.random() < 0.3:
                    client.sendall(rng.choice([b"{", b"\xff", b'{"execute":"qmp_capabilities"}']))
                client.close()
                if number % 1000 == 0:
                    control.ask("query-status")
            control.ask("query-status")
            control.ask("query-status")
        except (Gone, Late) as error:
            return count, [lost(machine, error, "connections")]
        except OSError as error:
            return count, [Finding("no-answer", "connect", str(error))]
        found = [each for each in [stderr_text(machine)] if each is not None]
        if (more := machine.descriptors() - descriptors) > 1:
            found.append(Finding("left-behind", f"{more} descriptors"))
        if machine.memory() - memory > GROWTH // 8:
            found.append(Finding("growth", f"{(machine.memory() - memory) >> 20} MiB"))
        control.close()
        return count, found


def commands(profile: str, count: int, rng: random.Random) -> Outcome:
    """One client's commands without end: what is kept of them is bounded."""
    with Machine(profile, ("-machine", "none", "-S", *BARE)) as machine:
        client: Client
        try:
            client = machine.client()
            names = ["query-status", "query-name", "query-chardev", "qom-list-types", "nope"]
            for _ in range(count // 10):
                client.ask(rng.choice(names))
            memory = machine.memory()
            for _ in range(count):
                client.ask(rng.choice(names))
        except (Gone, Late) as error:
            return count, [lost(machine, error, "commands")]
        found = [each for each in [stderr_text(machine)] if each is not None]
        if machine.memory() - memory > GROWTH // 4:
            found.append(Finding("growth", f"{(machine.memory() - memory) >> 20} MiB"))
        client.close()
        return count, found


def machines(profile: str, count: int, rng: random.Random) -> Outcome:  # noqa: ARG001
    """Machines of one process, half of them migrating to the other half."""
    command = [sys.executable, str(ROOT / "scripts" / "check_fleet"), "--count", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*command, "--profile", profile], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if ran.returncode == 0:
        return count, []
    lines = (ran.stderr.strip() or "no message").splitlines()
    return count, [Finding("left-behind", lines[-1], ran.stderr[-3000:])]


#: name -> what it does, and how much of it by default and in a short run
PARTS: dict[str, tuple[Callable[[str, int, random.Random], Outcome], int, int]] = {
    "kills": (kills, 100, 4),
    "limits": (limits, 1, 1),
    "disks": (disks, 1, 1),
    "connections": (connections, 100_000, 2000),
    "commands": (commands, 100_000, 2000),
    "machines": (machines, 1000, 20),
}
