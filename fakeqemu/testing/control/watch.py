"""`fakeqemu watch`: what the machines behind a control socket are at, as it changes.

All of it comes from their journals: looking executes no command on a machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.journal import JournalEntry, line_of
from fakeqemu.testing.control.client import ControlClient, token_from

#: seconds between two looks
_INTERVAL = 0.5
#: entries of a journal that are shown, and faults, and points of a plot
_LINES, _FAULTS, _POINTS = 5, 3, 240
#: entries that are asked for at once
_BATCH = 5000
#: cells of a progress bar
_BAR = 24
_ENDS = ("completed", "failed", "cancelled", "none")
_OVER = ("concluded", "null")


@dataclass(slots=True)
class MachineView:
    """One machine, as its journal tells."""

    name: str
    profile: str = ""
    status: str = ""
    exit_code: int | None = None
    #: side -> status of its migration
    migration: dict[str, str] = field(default_factory=dict)
    #: number of passes over memory, and bytes that are left to send, at most and now
    passes: int = 0
    most: int = 0
    left: int = 0
    #: (nanoseconds of the machine's clock, bytes that were left)
    plot: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_POINTS))
    #: job -> type and state, of those that are not over
    jobs: dict[str, tuple[str, str]] = field(default_factory=dict)
    commands: int = 0
    #: commands a second of the wall, between the last two looks
    rate: float = 0.0
    faults: deque[str] = field(default_factory=lambda: deque(maxlen=_FAULTS))
    struck: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    #: which of the machines that had this name
    run: int = 0
    #: number of the next entry
    next: int = 0

    def add(self, number: int, entry: JournalEntry) -> None:
        """One more entry of its journal."""
        self.next = number + 1
        self.lines.append(line_of(entry))
        data = entry.data
        match entry.kind:
            case "command":
                self.commands += 1
            case "migration":
                if entry.name == "setup":
                    self.passes = self.most = self.left = 0
                    self.plot.clear()
                elif entry.name == "completed":
                    self.left = 0
                self.migration[str(data.get("side", "outgoing"))] = entry.name
            case "migration-pass":
                self.passes = int(entry.name)
                self.left = int(data.get("remaining", 0))
                self.most = max(self.most, self.left)
                self.plot.append((entry.time, self.left))
            case "job":
                state = str(data.get("state"))
                if state in _OVER:
                    self.jobs.pop(entry.name, None)
                else:
                    self.jobs[entry.name] = (str(data.get("type")), state)
            case "fault":
                self.struck += 1
                self.faults.append(f"{entry.name} at {entry.time / 1e9:.3f} s")

    @property
    def migrates(self) -> bool:
        """Whether a migration is under way."""
        return any(status not in _ENDS for status in self.migration.values())

    @property
    def share(self) -> float:
        """How much of what there is to send has gone, 0 to 1."""
        return 1 - self.left / self.most if self.most else 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "profile": self.profile,
            "status": self.status,
            "exit-code": self.exit_code,
            "migration": dict(self.migration),
            "migrates": self.migrates,
            "passes": self.passes,
            "left": self.left,
            "share": round(self.share, 4),
            "plot": [list(point) for point in self.plot],
            "jobs": {job: list(about) for job, about in self.jobs.items()},
            "commands": self.commands,
            "rate": round(self.rate, 1),
            "faults": list(self.faults),
            "struck": self.struck,
            "lines": list(self.lines),
        }


class Watcher:
    """The machines behind one control socket."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._last: float | None = None
        self.machines: dict[str, MachineView] = {}

    def look(self) -> Mapping[str, MachineView]:
        """Look again. Raises EOFError when the socket has ended."""
        now = time.monotonic()
        since = None if self._last is None else now - self._last
        self._last = now
        found = self._control.ask("query-machines")
        for name in set(self.machines) - {each["name"] for each in found}:
            del self.machines[name]
        for each in found:
            view = self.machines.get(each["name"])
            if view is None or view.run != each["run"]:
                # another one has its name now, and its journal begins anew
                view = self.machines[each["name"]] = MachineView(each["name"])
                view.run = each["run"]
            view.profile, view.status = each["profile"], each["status"]
            view.exit_code = each.get("exit-code")
            before = view.commands
            self._read(view)
            if since:
                view.rate = (view.commands - before) / since
        return self.machines

    def _read(self, view: MachineView) -> None:
        while True:
            entries = self._control.ask(
                "query-journal", machine=view.name, first=view.next, limit=_BATCH
            )
            for each in entries:
                entry = JournalEntry(each["time"], each["kind"], each["name"], each["data"])
                view.add(each["number"], entry)
            if len(entries) < _BATCH:
                return


def shown(machines: Mapping[str, MachineView], width: int) -> list[str]:
    """What a terminal shows, in lines of at most `width` characters."""
    alive = sum(view.exit_code is None for view in machines.values())
    struck = sum(view.struck for view in machines.values())
    rate = sum(view.rate for view in machines.values())
    lines = [f"{alive} of {len(machines)} machines, {rate:.0f} commands/s, {struck} faults struck"]
    for view in machines.values():
        end = "" if view.exit_code is None else f", ended with {view.exit_code}"
        lines += ["", f"{view.name}  {view.profile}  {view.status}{end}  "
                      f"{view.commands} commands ({view.rate:.0f}/s)"]  # fmt: skip
        for side, status in view.migration.items():
            text = f"  {side} migration: {status}"
            if side == "outgoing" and view.most:
                text += f"  {bar(view.share)} {amount(view.left)} left, pass {view.passes}"
            lines.append(text)
        lines += [f"  job {job}: {kind} {state}" for job, (kind, state) in view.jobs.items()]
        if view.faults:
            lines.append(f"  {view.struck} faults, last: {', '.join(view.faults)}")
        if len(machines) <= _LINES:
            lines += [f"    {line}" for line in view.lines]
    return [line[:width] for line in lines]


def bar(share: float) -> str:
    """A progress bar."""
    full = round(share * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}"


def amount(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def watch(address: str, *, once: bool, web: str | None, token_file: str | None) -> int:
    """Watch until the control socket ends or SIGINT comes. Raises OSError, ValueError."""
    with ControlClient(address, token_from(token_file)) as control:
        watcher = Watcher(control)
        if web is not None:
            from fakeqemu.testing.control.watch_web import WatchServer

            with WatchServer(web) as server:
                sys.stderr.write(f"fakeqemu: the page is at {server.url}\n")
                sys.stderr.flush()
                return _look_on(watcher, server.show)
        if once:
            _print(watcher.look())
            return 0
        return _look_on(watcher, _draw if sys.stdout.isatty() else _print)


def _look_on(watcher: Watcher, show: Callable[[Mapping[str, MachineView]], None]) -> int:
    try:
        while True:
            show(watcher.look())
            time.sleep(_INTERVAL)
    except EOFError:
        sys.stderr.write("fakeqemu: the control socket has ended\n")
        return 0


def _print(machines: Mapping[str, MachineView]) -> None:
    sys.stdout.write("\n".join([*shown(machines, 1 << 16), ""]) + "\n")
    sys.stdout.flush()


def _draw(machines: Mapping[str, MachineView]) -> None:
    size = shutil.get_terminal_size()
    lines = shown(machines, size.columns)
    if len(lines) > size.lines - 1:
        lines = [*lines[: size.lines - 2], f"... {len(lines) - size.lines + 2} more lines"]
    # home, each line to its end, and all below it
    text = "".join(f"{line}\x1b[K\n" for line in lines)
    os.write(sys.stdout.fileno(), f"\x1b[H{text}\x1b[J".encode("utf-8", "replace"))
