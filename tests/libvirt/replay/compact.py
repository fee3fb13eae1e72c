"""Makes a transcript out of what `scripts/accept --record` wrote: rows of messages and starts."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from replay.transcript import Line, Start, Transcript

Row = dict[str, Any]


def load(path: Path) -> list[Row]:
    """The rows of a file of JSON lines, or of one JSON list; gzip or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if ".argv." in path.name:
        rows: list[Row] = json.loads(text)
        return rows
    return [json.loads(line) for line in text.splitlines()]


def compact(rows: list[Row], starts: list[Row], profile: str, libvirt: str) -> Transcript:
    """The conversation in `rows` with the emulators of `starts`.

    A monitor's rows belong to the emulator that was started last before it was connected,
    unless libvirtd only came back to one, and asks for its status then.
    """
    transcript = Transcript(profile, libvirt)
    waiting = sorted(starts, key=lambda start: float(start["time"]))
    current: dict[tuple[str, str], tuple[int, int]] = {}
    counts: dict[int, int] = {}
    of_daemon: dict[str, int] = {}
    for number, row in enumerate(rows):
        key = (row["daemon"], row["mon"])
        if row["dir"] == "c2s" and row["msg"]["execute"] == "qmp_capabilities":
            if _comes_back(rows, number):
                emulator = of_daemon[row["daemon"]]
            else:
                emulator = len(transcript.starts)
                transcript.starts.append(_start(waiting.pop(0), row))
                of_daemon[row["daemon"]] = emulator
            counts[emulator] = counts.get(emulator, -1) + 1
            current[key] = (emulator, counts[emulator])
        if key not in current:
            continue
        message = {k: v for k, v in row["msg"].items() if k not in ("id", "timestamp")}
        if "QMP" in message:
            continue
        emulator, connection = current[key]
        step = str(row.get("step", ""))
        sent = row["dir"] == "c2s"
        line = Line(emulator, connection, message, step, sent, bool(row.get("fd")))
        transcript.lines.append(line)
    return transcript


def _comes_back(rows: list[Row], number: int) -> bool:
    first = rows[number]
    mine = (
        row["msg"]["execute"]
        for row in rows[number:]
        if row["dir"] == "c2s" and (row["daemon"], row["mon"]) == (first["daemon"], first["mon"])
    )
    return "query-status" in [command for _, command in zip(range(3), mine, strict=False)]


def _start(start: Row, row: Row) -> Start:
    fds = {int(fd): _kind(about) for fd, about in start["fds"].items() if int(fd) > 2}
    return Start(start["argv"][1:], fds, row["daemon"], str(row.get("step", "")))


def _kind(about: Any) -> str:
    link = about["link"] if isinstance(about, dict) else about
    if link.startswith("socket:"):
        return "listen"
    return "file" if link.startswith("/") else "other"


def when(row: Row) -> float:
    """Seconds since the epoch."""
    text = str(row["ts"])
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
