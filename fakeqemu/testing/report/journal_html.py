"""Journals as one page to look at: a lane for each machine, time down, no file beside it.

Arrows join what a destination hears with what its source did; a plot shows what a migration
had left to send, pass by pass. Plain HTML and SVG: it opens from a report's artefacts
in any browser, without a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape

from fakeqemu.dataclass import dataclass
from fakeqemu.journal import Journal, JournalEntry

_LANE = 460
_ROW = 20
_LEFT = 110
_HEAD = 40
_PLOT = (900, 220)
_COLOURS = {
    "command": "#1a5fb4",
    "reply": "#26a269",
    "error": "#c01c28",
    "not-modelled": "#c01c28",
    "protocol": "#c01c28",
    "bug": "#c01c28",
    "event": "#813d9c",
    "migration": "#e66100",
    "runstate": "#986a44",
    "fault": "#c01c28",
}
#: (state of the source, state of the destination): one is told of by the other
_ARROWS = (
    ("setup", "active"),
    ("active", "active"),
    ("device", "completed"),
    ("completed", "completed"),
    ("postcopy-active", "postcopy-active"),
    ("postcopy-recover", "postcopy-recover"),
    ("cancelling", "failed"),
    ("cancelled", "failed"),
    ("failed", "failed"),
)
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:24px;color:#222}"
    "svg{background:#fff;border:1px solid #ddd;display:block;margin:12px 0}"
    "text{font:12px ui-monospace,monospace}h1{font-size:18px}h2{font-size:15px}"
    ".t{fill:#777}.lane{stroke:#ccc}.arrow{stroke:#e66100;fill:none;marker-end:url(#a)}"
)


@dataclass(frozen=True)
class _Row:
    """One entry in its place."""

    lane: int
    entry: JournalEntry
    y: int


def page(journals: Mapping[str, Journal], title: str = "fakeqemu") -> str:
    """The page. Lanes stand in the order of `journals`."""
    rows = list(_rows(journals))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _lanes(list(journals), rows),
    ]
    for name, journal in journals.items():
        points = list(remaining(journal))
        if len(points) > 1:
            parts.append(f"<h2>{escape(name)}: bytes left to send</h2>{_plot(points)}")
    parts.append("</body></html>\n")
    return "".join(parts)


def remaining(journal: Journal) -> Iterator[tuple[int, int]]:
    """(time, bytes left) at the beginning of each pass, and at each query."""
    for entry in journal:
        if entry.kind == "migration-pass":
            yield entry.time, entry.data["remaining"]
        elif entry.kind == "reply" and entry.name == "query-migrate":
            ram = entry.data["value"].get("ram")
            if ram is not None:
                yield entry.time, ram["remaining"]
        elif (entry.kind, entry.name) == ("migration", "completed") and entry.data.get(
            "side"
        ) == "outgoing":
            yield entry.time, 0


def _rows(journals: Mapping[str, Journal]) -> Iterator[_Row]:
    entries = [
        (entry.time, lane, number, entry)
        for lane, journal in enumerate(journals.values())
        for number, entry in enumerate(journal)
        if entry.kind not in ("boot", "phase", "early-read")
    ]
    entries.sort(key=lambda each: each[:3])
    for index, (_, lane, _, entry) in enumerate(entries):
        yield _Row(lane, entry, _HEAD + (index + 1) * _ROW)


def _lanes(names: list[str], rows: list[_Row]) -> str:
    width = _LEFT + _LANE * max(1, len(names))
    height = _HEAD + _ROW * (len(rows) + 2)
    parts = [
        f"<svg width='{width}' height='{height}' xmlns='http://www.w3.org/2000/svg'>"
        "<defs><marker id='a' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='8' "
        "markerHeight='8' orient='auto'><path d='M0 0L8 4L0 8z' fill='#e66100'/></marker></defs>"
    ]
    for lane, name in enumerate(names):
        x = _LEFT + lane * _LANE
        parts.append(f"<text x='{x + 12}' y='22' font-weight='bold'>{escape(name)}</text>")
        parts.append(
            f"<line class='lane' x1='{x}' y1='30' x2='{x}' y2='{height - _ROW}'/>"
        )
    parts += [_row(row) for row in rows]
    parts += [_arrow(start, end) for start, end in _arrows(rows)]
    return "".join([*parts, "</svg>"])


def _row(row: _Row) -> str:
    entry = row.entry
    x = _LEFT + row.lane * _LANE
    colour = _COLOURS.get(entry.kind, "#555")
    whole = json.dumps(entry.data, ensure_ascii=False, default=repr)
    short = "" if whole == "{}" else whole[:34] + ("…" if len(whole) > 34 else "")
    text = f"{entry.kind} {entry.name} {short}"
    return (
        f"<text class='t' x='4' y='{row.y}'>{entry.time / 1e9:.6f}</text>"
        f"<circle cx='{x}' cy='{row.y - 4}' r='4' fill='{colour}'/>"
        f"<text x='{x + 12}' y='{row.y}' fill='{colour}'>{escape(text)}"
        f"<title>{escape(whole)}</title></text>"
    )


def _arrows(rows: list[_Row]) -> Iterator[tuple[_Row, _Row]]:
    """What the source did, and the first that the destination did because of it."""
    states = [row for row in rows if row.entry.kind == "migration"]
    used: set[int] = set()
    for start in states:
        if start.entry.data.get("side") not in ("outgoing", "source"):
            continue
        for end in states:
            if end.lane == start.lane or id(end) in used or end.y < start.y:
                continue
            if (start.entry.name, end.entry.name) in _ARROWS:
                used.add(id(end))
                yield start, end
                break


def _arrow(start: _Row, end: _Row) -> str:
    step = 6 if end.lane > start.lane else -6
    x1 = _LEFT + start.lane * _LANE + step
    x2 = _LEFT + end.lane * _LANE - step
    return f"<path class='arrow' d='M{x1} {start.y - 4}L{x2} {end.y - 4}'/>"


def _plot(points: list[tuple[int, int]]) -> str:
    width, height = _PLOT
    first, last = points[0][0], points[-1][0]
    span, most = max(1, last - first), max(1, *(size for _, size in points))
    steps = " ".join(
        f"{40 + (at - first) * (width - 60) / span:.1f},"
        f"{height - 30 - size * (height - 60) / most:.1f}"
        for at, size in points
    )
    return (
        f"<svg width='{width}' height='{height}' xmlns='http://www.w3.org/2000/svg'>"
        f"<polyline points='{steps}' fill='none' stroke='#1a5fb4' stroke-width='2'/>"
        f"<text x='40' y='18'>{most:,} bytes</text>"
        f"<text class='t' x='40' y='{height - 8}'>{first / 1e9:.3f} s</text>"
        f"<text class='t' x='{width - 20}' y='{height - 8}' text-anchor='end'>"
        f"{last / 1e9:.3f} s</text></svg>"
    )
