"""What the flows of migration have in common; no steps of its own."""

from __future__ import annotations

import re
from typing import Any

from accept.daemon import Daemon
from accept.errors import Failed
from accept.lab import Lab
from accept.processes import Child

NAME = "acc-mig"
BASE = ("migrate", "--live", "--unsafe", "--persistent", "--undefinesource")
TCP = ("--migrateuri", "tcp://127.0.0.1", "--listen-address", "127.0.0.1")
#: MiB. Untouched, that is some 9 MiB on the wire: 8 s at SLOW with or without real memory
SLOW_MEMORY = 4096
SLOW = ("--bandwidth", "1")


def prepare(lab: Lab, **more: Any) -> Daemon:
    """A running domain here, none there; the daemon there."""
    far = lab.need_far()
    far.gone(NAME)
    lab.near.gone(NAME)
    more.setdefault("memory", 256)
    lab.running(NAME, **more)
    return far


def prepare_slow(lab: Lab, **more: Any) -> Daemon:
    """The same with a domain that takes its time at SLOW."""
    return prepare(lab, memory=SLOW_MEMORY, **more)


def migrate(lab: Lab, *more: object, timeout: float = 90) -> None:
    """Migrate the domain from here to there, peer to peer."""
    lab.near.virsh(*BASE, "--p2p", *more, NAME, lab.far.uri, *TCP, timeout=timeout)


def begin(lab: Lab, *more: object) -> Child:
    """The same, slowly and in the background; returns when the job is seen running."""
    child = lab.near.background(*BASE, "--p2p", *more, *SLOW, NAME, lab.far.uri, *TCP)

    def seen() -> bool:
        if child.poll() is not None:
            said = child.errors().strip()[-300:]
            raise Failed(f"migration ended (rc {child.poll()}) before it was seen: {said}")
        outcome = lab.near.ask("domjobinfo", NAME)
        return outcome.code == 0 and "Memory processed:" in outcome.out

    lab.until(seen, 30, "a running migration job")
    return child


def finish(lab: Lab, child: Child, timeout: float = 90) -> None:
    """Wait for the migration in the background, which must succeed."""
    if lab.near.wait_for(child, timeout):
        raise Failed("migrate: " + child.errors().strip()[-400:])


def must_fail(lab: Lab, child: Child, timeout: float = 60) -> str:
    """Wait for the migration in the background, which must fail; what it said."""
    if lab.near.wait_for(child, timeout) == 0:
        raise Failed("migrate succeeded")
    return child.errors()


def check_moved(source: Daemon, destination: Daemon, name: str = NAME) -> None:
    """The domain runs there and is gone here."""
    destination.wait_state(name, "running")
    if destination.qmp(name, "query-status").get("status") != "running":
        raise Failed("the destination's emulator is not running")
    state = source.state(NAME)
    if state != "absent":
        raise Failed("the source still has the domain: " + state)


def wait_absent(daemon: Daemon, timeout: float = 30) -> None:
    daemon.until(lambda: daemon.state(NAME) == "absent", timeout, "the domain to be cleaned up")


def clean_up(lab: Lab) -> None:
    lab.near.gone(NAME)
    if lab.far.alive:
        lab.far.gone(NAME)


def has(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
