"""One recorded conversation: the emulators that were started, and what was said, in order."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Message = dict[str, Any]


@dataclass
class Start:
    """How one emulator was started."""

    argv: list[str]
    #: inherited descriptors: number -> what it was: listen, file, or other
    fds: dict[int, str]
    #: which libvirtd started it
    daemon: str
    step: str

    @property
    def name(self) -> str:
        """The domain's."""
        return self.argv[self.argv.index("-name") + 1] if "-name" in self.argv else ""


@dataclass
class Line:
    """One message. A reply has no id: replies come in the order of the requests."""

    emulator: int
    #: connections of one emulator are numbered; a new one is libvirtd coming back
    connection: int
    message: Message
    step: str
    #: whether libvirt said it
    sent: bool = False
    #: whether a descriptor went with it
    with_fd: bool = False

    @property
    def is_event(self) -> bool:
        return "event" in self.message


@dataclass
class Transcript:
    """A conversation and with whom it was."""

    #: profile of the emulator that answered
    profile: str
    libvirt: str
    starts: list[Start] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def write(transcript: Transcript, path: Path) -> None:
    """Store it; the same transcript always gives the same bytes."""
    rows: list[Any] = [
        {
            "profile": transcript.profile,
            "libvirt": transcript.libvirt,
            "starts": [vars(start) for start in transcript.starts],
        }
    ]
    place: tuple[int, int, str] | None = None
    for line in transcript.lines:
        if (line.emulator, line.connection, line.step) != place:
            place = (line.emulator, line.connection, line.step)
            rows.append(list(place))
        kind = "f" if line.with_fd else "c" if line.sent else "s"
        rows.append([kind, line.message])
    rows = [rows[0], *_fold(rows[1:])]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> Transcript:
    """What `write` stored."""
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    head = rows[0]
    transcript = Transcript(head["profile"], head["libvirt"])
    for start in head["starts"]:
        fds = {int(number): kind for number, kind in start.pop("fds").items()}
        transcript.starts.append(Start(fds=fds, **start))
    place = (0, 0, "")
    for row in _unfold(rows[1:]):
        if len(row) == 3:
            place = tuple(row)
            continue
        kind, message = row
        emulator, connection, step = place
        line = Line(emulator, connection, message, step, kind != "s", kind == "f")
        transcript.lines.append(line)
    return transcript


def _fold(rows: list[Any]) -> list[Any]:
    """Let hundreds of questions for one property each be one row."""
    folded: list[Any] = []
    at = 0
    while at < len(rows):
        question, answer = rows[at], rows[at + 1] if at + 1 < len(rows) else None
        if answer is not None and _is_property(question, answer):
            path = question[1]["arguments"]["path"]
            name, value = question[1]["arguments"]["property"], answer[1]["return"]
            if folded and folded[-1][0] == "g" and folded[-1][1] == path:
                folded[-1][2].append([name, value])
            else:
                folded.append(["g", path, [[name, value]]])
            at += 2
        else:
            folded.append(question)
            at += 1
    return folded


def _is_property(question: Any, answer: Any) -> bool:
    return (
        question[:1] == ["c"]
        and question[1].get("execute") == "qom-get"
        and answer[:1] == ["s"]
        and isinstance(answer[1].get("return"), bool)
    )


def _unfold(rows: list[Any]) -> list[Any]:
    unfolded: list[Any] = []
    for row in rows:
        if row[0] != "g":
            unfolded.append(row)
            continue
        for name, value in row[2]:
            arguments = {"path": row[1], "property": name}
            unfolded.append(["c", {"execute": "qom-get", "arguments": arguments}])
            unfolded.append(["s", {"return": value}])
    return unfolded
