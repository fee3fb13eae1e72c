"""The ways to run a machine; the modules of a way are imported when it is used."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fakeqemu.testing.runners.base import LoopShell, Shell, Spec

#: where a machine may run
WAYS = ("loop", "thread", "process", "fork")


def shell_of(way: str, spec: Spec) -> Shell:
    """What runs a machine that way, not started yet."""
    if way == "loop":
        return LoopShell(spec)
    if way == "thread":
        from fakeqemu.testing.runners.thread import ThreadShell

        return ThreadShell(spec)
    from fakeqemu.testing.runners.subprocess import RemoteShell, launch_process

    if way == "process":
        return RemoteShell(spec, launch_process)
    from fakeqemu.testing.runners.forkclient import launch_fork

    return RemoteShell(spec, launch_fork)


def make_directory() -> Path:
    """A temporary directory whose path is short enough for sockets on every system."""
    places = (tempfile.gettempdir(), "/tmp")
    short = (place for place in places if len(place) < 60 and Path(place).is_dir())
    return Path(tempfile.mkdtemp(prefix="fq-", dir=next(short, None)))
