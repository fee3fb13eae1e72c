"""What may be said in the environment, by those who cannot change the command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def test_a_scenario_and_a_control_socket(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[guest]\npowerdown = "shutdown"\ndelay = 0\n')
    control = tmp_path / "control"
    environment = {
        **os.environ,
        "FAKEQEMU_SCENARIO": str(scenario),
        "FAKEQEMU_CONTROL": f"unix:{control}",
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        chardev = f"socket,id=m,fd={theirs.fileno()}"
        process = subprocess.Popen(
            [sys.executable, "-m", "fakeqemu", "run", "--profile", "10.0", "--",
             "-machine", "q35", "-nodefaults", "-display", "none",
             "-chardev", chardev, "-mon", "chardev=m,mode=control"],
            pass_fds=[theirs.fileno()],
            env=environment,
        )  # fmt: skip
        theirs.close()
        ours.settimeout(20)
        with ours.makefile("r", encoding="utf-8") as lines:
            assert "QMP" in json.loads(lines.readline())
            assert control.is_socket()
            ours.sendall(b'{"execute": "qmp_capabilities"}{"execute": "system_powerdown"}')
            rest = [json.loads(line) for line in lines]
        assert process.wait(20) == 0
        assert not control.exists()
    causes = [each["data"] for each in rest if each.get("event") == "SHUTDOWN"]
    assert causes == [{"guest": True, "reason": "guest-shutdown"}]


def test_a_scenario_for_an_emulator_that_a_management_tool_starts(tmp_path: Path) -> None:
    """Nothing in the environment but what the tool was told to pass on, and no directory."""
    command = [sys.executable, "-m", "fakeqemu", "emulator", str(tmp_path), "--profile", "10.0"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[guest]\nunplug = "acknowledge"\ndelay = 0\n')
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [tmp_path / "qemu-system-x86_64", "-machine", "pc", "-nodefaults",
             "-display", "none", "-device", "virtio-rng-pci,id=rng0",
             "-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"],
            pass_fds=[theirs.fileno()],
            env={"LC_ALL": "C", "HOME": "/nonexistent", "FAKEQEMU_SCENARIO": str(scenario)},
            cwd="/",
        )  # fmt: skip
        theirs.close()
        ours.settimeout(20)
        with ours.makefile("r", encoding="utf-8") as lines:
            assert "QMP" in json.loads(lines.readline())
            delete = '{"execute": "device_del", "arguments": {"id": "rng0"}}'
            ours.sendall(f'{{"execute": "qmp_capabilities"}}{delete}'.encode())
            said = (json.loads(line) for line in lines)
            gone = next(each["data"] for each in said if each.get("event") == "DEVICE_DELETED")
            assert gone["path"].startswith("/machine/peripheral/rng0")
            ours.sendall(b'{"execute": "quit"}')
            list(said)
        assert process.wait(20) == 0
