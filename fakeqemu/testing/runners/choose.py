"""Where a machine runs; the modules of a runner are imported when it is used."""

from __future__ import annotations

from pathlib import Path

from fakeqemu.testing.runners.base import InProcessRunner, Runner, Spec

#: the runners' names
RUNNERS = ("loop", "thread", "process", "fork")


def make_runner(runner: str, spec: Spec) -> Runner:
    """That runner for a machine, not started yet."""
    if runner == "loop":
        return InProcessRunner(spec)
    if runner == "thread":
        from fakeqemu.testing.runners.thread import ThreadRunner

        return ThreadRunner(spec)
    from fakeqemu.testing.runners.subprocess import SubprocessRunner, launch_process

    if runner == "process":
        return SubprocessRunner(spec, launch_process)
    from fakeqemu.testing.runners.forkclient import launch_fork

    return SubprocessRunner(spec, launch_fork)


def make_directory() -> Path:
    """A temporary directory whose path is short enough for sockets on every system."""
    import tempfile

    places = (tempfile.gettempdir(), "/tmp")
    short = (place for place in places if len(place) < 60 and Path(place).is_dir())
    return Path(tempfile.mkdtemp(prefix="fq-", dir=next(short, None)))


def remove_directory(directory: Path) -> None:
    """Take it away again, with what is in it."""
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
