"""A private libvirtd, and virsh talking to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from accept.errors import Failed
from accept.launch import SYSTEM_PATH, Launch
from accept.processes import Child, Outcome, run

T = TypeVar("T")

CLIENT = {"PATH": SYSTEM_PATH, "HOME": "/root", "LANG": "C", "LC_ALL": "C", "TERM": "dumb"}


class Daemon:
    """One libvirtd with its domains, as a management tool sees it.

    All time-outs are in seconds and multiplied by `scale`.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        launch: Launch,
        *,
        virsh: str,
        environment: dict[str, str],
        scale: float,
    ) -> None:
        self.name = name
        self.directory = directory
        self.launch = launch
        self.scale = scale
        self.process: Child | None = None
        self._virsh = virsh
        self._environment = environment
        self._events: Child | None = None
        self._events_path = directory / "events.txt"
        self._events_seen = ""
        self._backgrounds: list[Child] = []

    @property
    def uri(self) -> str:
        return self.launch.uri

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # -- the daemon itself

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it answers."""
        self.process = Child(
            self.launch.command(),
            env=self.launch.environment() | self._environment,
            out=self.directory / "log" / "stdout",
            err=self.directory / "log" / "stderr",
            user=self.launch.user,
        )
        self.until(self._answers, timeout, f"libvirtd {self.name} to answer {self.complaints()}")

    def _answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            said = self.process.errors()[-300:]
            raise Failed(f"libvirtd {self.name} exited {self.process.poll()}: {said}")
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.launch.socket))
            except OSError:
                return False
        return self.ask("uri").code == 0

    def stop(self) -> None:
        """End libvirtd only; emulators keep running."""
        self._stop_events()
        if self.process:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(12)
            self.process.end()
        self.process = None

    def log_size(self) -> int:
        try:
            return self.launch.log.stat().st_size
        except OSError:
            return 0

    def log_since(self, offset: int = 0) -> str:
        """Its debug log from a position on."""
        try:
            with self.launch.log.open("rb") as file:
                file.seek(offset)
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def complaints(self) -> str:
        """The last errors in its log."""
        recent = self.log_since(max(0, self.log_size() - 200_000)).splitlines()
        lines = [line.strip()[:250] for line in recent if ": error :" in line]
        return " | ".join(line for line in lines[-3:] if "RECV_REPLY" not in line)

    # -- events

    def start_events(self) -> None:
        """Watch its events from now on."""
        if self._events and self._events.poll() is None:
            return
        argv = [self._virsh, "-q", "-c", self.uri, "event", "--loop", "--all", "--timestamp"]
        self._events = Child(argv, env=CLIENT, out=self._events_path)

    def _stop_events(self) -> None:
        if self._events:
            self._events_seen = self.events()
            self._events.end()
            self._events = None
            self._events_path.unlink(missing_ok=True)

    def events(self) -> str:
        """Everything `virsh event` printed so far."""
        try:
            return self._events_seen + self._events_path.read_text(errors="replace")
        except OSError:
            return self._events_seen

    def mark(self) -> int:
        """A position in the events for wait_event."""
        return len(self.events())

    def wait_event(self, regex: str, mark: int, timeout: float = 10) -> None:
        """Wait for an event after the mark."""
        try:
            self.until(lambda: re.search(regex, self.events()[mark:]), timeout, regex)
        except Failed:
            tail = self.events()[mark:].strip().splitlines()[-4:]
            raise Failed(f"no event /{regex}/ within {timeout}s; saw {tail}") from None

    # -- virsh

    def ask(self, *words: object, timeout: float = 30) -> Outcome:
        """Run a virsh command that may fail."""
        argv = [self._virsh, "-q", "-c", self.uri, *map(str, words)]
        return run(argv, timeout * self.scale, CLIENT)

    def virsh(self, *words: object, timeout: float = 30) -> str:
        """Run a virsh command and return what it prints."""
        outcome = self.ask(*words, timeout=timeout)
        if outcome.code:
            said = " ".join(line.replace("error: ", "", 1) for line in outcome.err.split("\n"))
            command = " ".join(map(str, words))[:90]
            raise Failed(f"virsh {command}: rc {outcome.code}: {said.strip()[:500]}")
        return outcome.out

    def background(self, *words: object) -> Child:
        """Start a virsh command; wait_for waits for its end."""
        child = Child([self._virsh, "-q", "-c", self.uri, *map(str, words)], env=CLIENT)
        self._backgrounds.append(child)
        return child

    def wait_for(self, child: Child, timeout: float) -> int:
        """The exit code of a command in the background."""
        code = child.wait(timeout * self.scale)
        if code is None:
            raise Failed(f"timeout after {timeout}s: {' '.join(child.argv[4:])[:120]}")
        return code

    def end_backgrounds(self) -> None:
        for child in self._backgrounds:
            child.end()
        self._backgrounds = []

    def qmp(self, domain: str, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a QMP command past libvirt; its return value."""
        request: dict[str, Any] = {"execute": command}
        if arguments is not None:
            request["arguments"] = arguments
        reply = json.loads(self.virsh("qemu-monitor-command", domain, json.dumps(request)))
        if "return" not in reply:
            raise Failed(f"qmp {command}: {reply.get('error')}")
        return reply["return"]

    def hmp(self, domain: str, line: str) -> str:
        return self.virsh("qemu-monitor-command", "--hmp", domain, line)

    def dumpxml(self, domain: str) -> ET.Element:
        return ET.fromstring(self.virsh("dumpxml", domain))

    def pid_of(self, domain: str) -> int:
        """The emulator of a running domain."""
        path = self.launch.pidfiles / f"{domain}.pid"
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            raise Failed(f"no pid in {path}") from None

    # -- waiting

    def until(self, ready: Callable[[], T], timeout: float, what: str) -> T:
        """Call `ready` until it returns something true, and return that. Raises Failed.

        The one place that sleeps: most of what is waited for is in other processes, which announce
        nothing.
        """
        end = time.monotonic() + timeout * self.scale
        while True:
            if result := ready():
                return result
            if time.monotonic() > end:
                raise Failed(f"waited {timeout * self.scale:.0f}s for {what}")
            time.sleep(0.05)

    def state(self, domain: str) -> str:
        """`state (reason)`, or absent."""
        outcome = self.ask("domstate", "--reason", domain)
        return "absent" if outcome.code else outcome.out.strip()

    def wait_state(self, domain: str, wanted: str, timeout: float = 20) -> str:
        """Wait until the state begins as wanted."""
        last = ""

        def ready() -> bool:
            nonlocal last
            last = self.state(domain)
            return last.startswith(wanted)

        try:
            self.until(ready, timeout, wanted)
        except Failed:
            raise Failed(f"{domain}: state is {last!r}, not {wanted!r} in {timeout}s") from None
        return last

    def gone(self, domain: str) -> None:
        """Make sure that there is no such domain."""
        if self.state(domain) == "absent":
            return
        metadata = ("--snapshots-metadata", "--checkpoints-metadata", "--managed-save")
        for words in (
            ("destroy", domain),
            ("managedsave-remove", domain),
            ("undefine", *metadata, domain),
        ):
            try:
                self.ask(*words)
            except Failed:
                continue
