"""`fakeqemu journal`: what a machine did, from its control socket or from a file."""

from __future__ import annotations

import json as json_module
import stat
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from fakeqemu.journal import JournalEntry, json_of, line_of
from fakeqemu.journal_kinds import KINDS
from fakeqemu.testing.control.client import ControlClient, token_from
from fakeqemu.testing.names import check_name

#: seconds for which the socket is asked to wait, after which another machine may have the name, and
#: between two looks at a file
_WAIT = 1.0
_LOOK = 0.2


def show_journal(
    address: str,
    *,
    follow: bool,
    last: int | None,
    kinds: Collection[str],
    machine: str | None,
    json: bool,
    token_file: str | None,
) -> int:
    """Print the entries. Raises OSError, ValueError."""
    for kind in kinds:
        check_name("kind of journal entry", kind, KINDS)
    if _is_file(address):
        if machine is not None:
            raise ValueError(f"--machine is for control sockets, {address} is a file")
        batches = _of_file(address, follow=follow)
    else:
        batches = _of_socket(address, machine, token_from(token_file), follow=follow)
    first = True
    for batch in batches:
        shown = [entry for entry in batch if not kinds or entry.kind in kinds]
        if first and last is not None:
            shown = shown[len(shown) - min(last, len(shown)) :]
        first = False
        for entry in shown:
            sys.stdout.write((json_of(entry) if json else line_of(entry)) + "\n")
        sys.stdout.flush()
    return 0


def _is_file(address: str) -> bool:
    if address.startswith(("unix:", "tcp:")):
        return False
    try:
        return not stat.S_ISSOCK(Path(address).stat().st_mode)
    except OSError:
        return "/" in address or ":" not in address


def _of_socket(
    address: str, machine: str | None, token: str, *, follow: bool
) -> Iterator[list[JournalEntry]]:
    given: dict[str, Any] = {} if machine is None else {"machine": machine}
    first = 0
    with ControlClient(address, token) as control:
        try:
            runs = _runs(control)
            found = control.ask("query-journal", **given)
            while True:
                if runs != (runs := _runs(control)):
                    # another machine has its name now: what was read may be either's
                    first, found = 0, control.ask("query-journal", **given)
                if isinstance(found, dict):
                    raise ValueError(f"say which machine is meant: {', '.join(sorted(found))}")
                yield [
                    JournalEntry(each["time"], each["kind"], each["name"], each["data"])
                    for each in found
                ]
                if not follow:
                    return
                if found:
                    first = found[-1]["number"] + 1
                found = control.ask("query-journal", first=first, wait=_WAIT, **given)
        except EOFError:
            return  # the machine has ended, and what it did last has been shown


def _runs(control: ControlClient) -> list[tuple[str, int]]:
    return [(each["name"], each["run"]) for each in control.ask("query-machines")]


def _of_file(path: str, *, follow: bool) -> Iterator[list[JournalEntry]]:
    number = 0
    rest = b""
    with Path(path).open("rb") as file:
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            batch = []
            for line in lines:
                number += 1
                if line.strip():
                    batch.append(_entry(line, path, number))
            yield batch
            if not follow:
                if rest.strip():
                    yield [_entry(rest, path, number + 1)]
                return
            time.sleep(_LOOK)


def _entry(line: bytes, path: str, number: int) -> JournalEntry:
    try:
        time, kind, name, data = json_module.loads(line)
        if not (isinstance(time, int) and isinstance(kind, str) and isinstance(data, dict)):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(f"{path}: line {number} is no entry of a journal") from None
    return JournalEntry(time, kind, str(name), data)
