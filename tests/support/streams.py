"""Streams of a known machine."""

from __future__ import annotations

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.load_context import LoadContext, LocalBlock
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.formats.migration_stream.source import DeviceSection, Source, SourceBlock
from fakeqemu.formats.migration_stream.vmstate.vmstate_fields import VmState, VmStateField
from fakeqemu.formats.migration_stream.writer import StreamWriter
from fakeqemu.traits import TRAITS, Traits

#: capabilities whose state matters to a stream, off
CAPABILITIES = {
    "7.2": {"compress": False, "x-ignore-shared": False, "postcopy-ram": False, "x-colo": False},
    "10.0": {"x-ignore-shared": False, "mapped-ram": False, "postcopy-ram": False, "x-colo": False},
    "11.1": {"x-ignore-shared": False, "mapped-ram": False, "postcopy-ram": False, "x-colo": False},
}
VERSIONS = tuple(CAPABILITIES)
RAM = SourceBlock("ram", 1 << 20)
#: a device whose state holds what looks like the beginning of its own footer
AWKWARD = DeviceSection(
    VmState("slirp", 4, (VmStateField("data", "buffer", 24),), old_style=True),
    b"\x7e\0\0\0\x10\xff" + b"\x7e\0\0\0" + b"\x7e\0\0\0\x10\x7e\0\0\0\x10\xff\xff\xff\xff",
)


def expectation(version: str, machine: str = "none", **members: object) -> LoadContext:
    on = members.pop("on", ())
    assert isinstance(on, tuple)
    capabilities = {name: name in on for name in CAPABILITIES[version]}
    return LoadContext(machine, capabilities=capabilities, **members)  # type: ignore[arg-type]


def reader(version: str, **members: object) -> StreamReader:
    return StreamReader(expectation(version, **members), TRAITS[version])


def precopy(
    traits: Traits,
    *,
    source: Source | None = None,
    pages: bool = False,
    runstate: str = "running",
) -> bytes:
    """A whole precopy stream of `source` (an empty machine)."""
    writer = StreamWriter(source or Source("none"), traits)
    data = writer.header() + writer.ram_setup() + writer.footer()
    if pages:
        for piece in writer.zero_pages():
            data += writer.ram_part(piece) + writer.footer()
    data += writer.switchover_start() + writer.ram_end() + writer.footer()
    return data + writer.device_states(runstate, clock=1234) + writer.end()


def read_all(
    stream: StreamReader, data: bytes, chunk: int = 0, eof: bool = True
) -> list[events.Event]:
    said: list[events.Event] = []
    step = chunk or max(1, len(data))
    for at in range(0, len(data), step):
        said += stream.feed(data[at : at + step])
    return said + (stream.feed_eof() if eof else [])


def of(said: list[events.Event], kind: type) -> list[events.Event]:
    return [event for event in said if isinstance(event, kind)]


def lines(said: list[events.Event]) -> list[str]:
    """What QEMU would have printed."""
    text = [event.text for event in said if isinstance(event, events.Report)]
    last = said[-1]
    return text + (list(last.error.lines) if isinstance(last, events.Failed) else [])


def local(size: int) -> dict[str, LocalBlock]:
    return {"ram": LocalBlock(size)}
