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
