"""A migration stream as it comes: bytes in, events out, no byte kept longer than needed.

The reader follows QEMU's own order of reading and checking, since the words for a stream that
is wrong depend on which check finds it first. It knows the frame of the stream, the `ram`
section and what every machine sends; of devices it finds the end (see `devices`).

    reader = StreamReader(LoadContext("pc-q35-10.0"), profile.traits)
    for event in reader.feed(data): ...
    for event in reader.feed_eof(): ...

The last event is `Loaded` or `Failed`; then `done` is true and more bytes change nothing.

See migration/savevm.c: qemu_loadvm_state(), qemu_loadvm_state_main(), qemu_loadvm_state_header()
and check_section_footer().
"""

from __future__ import annotations

from collections.abc import Collection, Generator

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream import (
    dirty_bitmaps as dirtybitmaps,
    events,
    vm_commands as commands,
)
from fakeqemu.formats.migration_stream.byte_reader import ByteReader, Parser
from fakeqemu.formats.migration_stream.constants import (
    COMMAND,
    CONFIGURATION,
    EOF,
    MAGIC,
    OBSOLETE_VERSION,
    RAM_VERSION,
    SECTION_END,
    SECTION_FULL,
    SECTION_LIMIT,
    SECTION_PART,
    SECTION_START,
    SUBSECTION,
    TAIL_LIMIT,
    VERSION,
    PostcopyState,
)
from fakeqemu.formats.migration_stream.errors import EINVAL, EIO, ENOTSUP, LoadError
from fakeqemu.formats.migration_stream.load_context import LoadContext
from fakeqemu.formats.migration_stream.ram import RamReader
from fakeqemu.formats.migration_stream.vmstate import (
    configuration,
    device_sections as devices,
    tpm_emulator,
    vmdesc,
    vmstate_fields as layout,
)
from fakeqemu.traits import Traits

#: sections that come in parts and are read here: the newest version taken
_LIVE = {"ram": RAM_VERSION, dirtybitmaps.SECTION: dirtybitmaps.SECTION_VERSION}


@dataclass(frozen=True, slots=True)
class _Section:
    """A section that has begun, to be found again by its number."""

    name: str
    instance_id: int
    version_id: int


class StreamReader:
    """Reads one main channel."""

    def __init__(self, expected: LoadContext, traits: Traits) -> None:
        self.expected = expected
        self.traits = traits
        #: nothing more is wanted
        self.done = False
        #: how far postcopy is
        self.postcopy = PostcopyState.NONE
        #: the source has asked for answers
        self.return_path = False
        #: a broken postcopy is being taken up again
        self.recovering = False
        self._pull = ByteReader()
        self._ram = RamReader(expected, traits)
        self._sections: dict[int, _Section] = {}
        self._found: list[tuple[str, int, int]] = []
        self._out: list[events.Event] = []
        self._parser: Parser = self._whole()

    # -- bytes in ----------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[events.Event]:
        """More of the stream; what it out. After the end it says nothing."""
        if self.done:
            return []
        self._pull.feed(data)
        return self._go()

    def feed_eof(self) -> list[events.Event]:
        """No more will come. Ends with `Loaded` or `Failed`, unless `done` before."""
        if self.done:
            return []
        self._pull.ended = True
        return self._go()

    @property
    def skippable(self) -> int:
        """How many of the bytes to come do not matter (the holes of a mapped-ram file)."""
        return self._pull.skippable

    def skip(self, size: int) -> list[events.Event]:
        """Go on as if `size` bytes, at most `skippable`, had been fed."""
        self._pull.jump(size)
        return self._go()

    def recover(self) -> None:
        """A new channel takes the place of one that broke in postcopy; read on there."""
        self._pull = ByteReader()
        self._parser = self._rest()
        self.return_path = self.recovering = True
        self.done = False

    def received(self, block: str) -> Collection[int]:
        """The pages of a block that have come in postcopy."""
        return self._ram.received.get(block, ())

    def has_block(self, name: str) -> bool:
        """Whether the source has listed, or the model has, a RAM block of this name."""
        return name in self._ram.sizes or name in self.expected.blocks

    def _go(self) -> list[events.Event]:
        try:
            next(self._parser)
        except StopIteration:
            self.done = True
        except LoadError as fault:
            self.done = True
            self._out += self._ram.pages()
            error = fault.error(has_cause=self.traits.load_error_has_cause)
            running = self.postcopy == PostcopyState.RUNNING
            self._out.append(events.Failed(error, running))
        if not self.done:
            self._out += self._ram.pages()
        # parsers hold on to the list: empty it, never replace it
        out = self._out[:]
        self._out.clear()
        return out

    # -- the frame ---------------------------------------------------------------------------

    def _whole(self) -> Parser:
        pull = self._pull
        magic = yield from pull.number(4)
        if magic != MAGIC:
            old = "Not a migration stream"
            raise LoadError(EINVAL, old, modern=f"{old}, magic: {magic:x} != {MAGIC:x}")
        version = yield from pull.number(4)
        if version == OBSOLETE_VERSION:
            old = "SaveVM v2 format is obsolete and don't work anymore"
            new = "SaveVM v2 format is obsolete and no longer supported"
            raise LoadError(ENOTSUP, old, modern=new)
        if version != VERSION:
            old = "Unsupported migration stream version"
            new = f"{old}, file version {version:x} != {VERSION}"
            raise LoadError(ENOTSUP, old, modern=new)
        if self.expected.configuration:
            mark = yield from pull.number(1)
            if mark != CONFIGURATION:
                old = "Configuration section missing"
                raise LoadError(EINVAL, old, modern=f"{old}, {mark:x} != {CONFIGURATION}")
            self._out += yield from configuration.read(pull, self.expected, self.traits)
        yield from self._rest()

    def _rest(self) -> Parser:
        pull = self._pull
        while not (yield from self.sections(pull)):
            pass  # the guest runs; pages go on coming
        if self.postcopy < PostcopyState.LISTENING and self.expected.description:
            self._out.append((yield from devices.read_description(pull, self._found)))
        self._out.append(events.Loaded())

    def sections(self, pull: ByteReader) -> Generator[None, None, bool]:
        """Sections and commands up to the end mark; false if a command ends them before."""
        while True:
            kind = yield from pull.number(1)
            if pull.error:
                raise LoadError(
                    pull.error,
                    modern=f"Failed to load section ID: stream error: -{pull.error}: "
                    "Channel error: Input/output error",
                )
            if kind in (SECTION_START, SECTION_FULL):
                if (yield from self._begin(pull, kind)):
                    return True
            elif kind in (SECTION_PART, SECTION_END):
                yield from self._continue(pull, kind)
            elif kind == COMMAND:
                if not (yield from commands.read(self, pull, self._out)):
                    return False
            elif kind == EOF:
                return True
            else:
                raise LoadError(
                    EINVAL,
                    f"Unknown savevm section type {kind}",
                    modern=f"Unknown section type {kind}",
                )

    # -- sections ----------------------------------------------------------------------------

    def _begin(self, pull: ByteReader, kind: int) -> Generator[None, None, bool]:
        """A section with a name; true if it took the rest of the stream with it."""
        section_id = yield from pull.number(4)
        name = yield from pull.counted()
        if not name:
            raise LoadError(EINVAL, f"Unable to read ID string for section {section_id}")
        instance = yield from pull.number(4)
        version = yield from pull.number(4)
        if pull.error:
            text = f"Failed to read instance/version ID: -{pull.error}"
            raise LoadError(pull.error, f"qemu_loadvm_section_start_full: {text}", modern=text)
        self._check(name, instance, version)
        section = _Section(name, instance, version)
        self._sections[section_id] = section
        full = kind == SECTION_FULL
        self._out.append(events.SectionBegins(section_id, name, instance, version, full))
        try:
            size = yield from self._body(pull, section_id, section, last=False)
        except LoadError as fault:
            text = f"error while loading state for instance 0x{instance:x} of device '{name}'"
            raise fault.wrap(text, f"{text}: ") from None
        if size is None and name not in _LIVE:
            return True
        if size is not None:
            self._device(section_id, section, size)
        if self.expected.footers:
            yield from devices.read_footer(pull, section_id, name)
        return False

    def _continue(self, pull: ByteReader, kind: int) -> Parser:
        section_id = yield from pull.number(4)
        if pull.error:
            text = f"Failed to read section ID: -{pull.error}"
            raise LoadError(pull.error, f"qemu_loadvm_section_part_end: {text}", modern=text)
        section = self._sections.get(section_id)
        if section is None:
            signed = section_id - (1 << 32) if section_id >> 31 else section_id
            raise LoadError(
                EINVAL,
                f"Unknown savevm section {signed}",
                modern=f"Unknown section {signed}",
            )
        try:
            size = yield from self._body(pull, section_id, section, last=kind == SECTION_END)
        except LoadError as fault:
            text = f"error while loading state section id {section_id}({section.name})"
            raise fault.wrap(text, "") from None
        if size is not None:
            self._out.append(
                events.DeviceState(section_id, section.name, section.instance_id, size)
            )
        if self.expected.footers:
            yield from devices.read_footer(pull, section_id, section.name)

    def _check(self, name: str, instance: int, version: int) -> None:
        local: int | None = None
        if name in _LIVE:
            local = None if instance else _LIVE[name]
        elif self.expected.section is not None:
            local = self.expected.section(name, instance)
        elif (fixed := layout.known(name, self.traits)) is not None:
            local = fixed.version_id
        else:
            local = version
        if local is None or len(self._sections) >= SECTION_LIMIT:
            text = (
                f"section or instance '{name}' {instance}. Make sure that your current VM setup "
                "matches your saved VM setup, including any hotplugged devices"
            )
            raise LoadError(EINVAL, f"Unknown savevm {text}", modern=f"Unknown {text}")
        if version > local:
            text = f"unsupported version {version} for '{name}' v{local}"
            raise LoadError(EINVAL, f"savevm: {text}", modern=text)

    def _body(
        self, pull: ByteReader, section_id: int, section: _Section, *, last: bool
    ) -> Generator[None, None, int | None]:
        """What is between header and footer; its size if it is of a device."""
        if section.name in _LIVE:
            try:
                yield from self._live(pull, section, last=last)
            except LoadError as fault:
                fault.cause = (
                    f"Failed to load vmstate version_id: {section.version_id}, ret: -{fault.errno}"
                )
                raise
            return None
        begin = pull.offset
        self._check_age(section)
        if section.name == tpm_emulator.SECTION and section.version_id == tpm_emulator.VERSION:
            blobs = yield from tpm_emulator.read(pull)
            if isinstance(blobs, str):
                raise configuration.truncated(section.name, blobs)
            self._out.append(events.TpmState(blobs))
            return pull.offset - begin
        fixed = layout.known(section.name, self.traits)
        if fixed is not None and fixed.version_id == section.version_id:
            yield from self._fields(pull, fixed)
            more = yield from pull.peek(1)
            if more != bytes([SUBSECTION]):
                return pull.offset - begin
        if not self.expected.footers:
            yield from self._tail(pull, section_id, section)
            return None
        yield from devices.skip_to_footer(pull, section_id, self._sections)
        return pull.offset - begin

    def _live(self, pull: ByteReader, section: _Section, *, last: bool) -> Parser:
        """A part of a section that comes in parts."""
        if section.name == dirtybitmaps.SECTION:
            yield from dirtybitmaps.read(
                pull,
                section.version_id,
                self.expected.bitmaps,
                lambda text: self._out.append(events.Report(text)),
            )
            return
        if section.version_id != RAM_VERSION:
            raise LoadError(EINVAL)
        yield from self._ram.read(pull, self.postcopy, last, self._out)

    def _check_age(self, section: _Section) -> None:
        fixed = layout.known(section.name, self.traits)
        if fixed is not None and section.version_id < fixed.minimum_version:
            text = (
                f"{section.name}: incoming version_id {section.version_id} is too old "
                "for local minimum version_id "
            )
            oldest = fixed.minimum_version
            raise LoadError(EINVAL, f"{text} {oldest}", modern=f"{text}{oldest}")

    def _fields(self, pull: ByteReader, fixed: layout.VmState) -> Parser:
        values: dict[str, bytes] = {}
        for field in fixed.fields:
            values[field.name] = yield from pull.get(field.size)
            if pull.error:
                raise configuration.truncated(fixed.name, field.name)
        if fixed.name == "globalstate":
            self._out.append(self._global_state(values))

    def _global_state(self, values: dict[str, bytes]) -> events.GlobalState:
        buffer = values["runstate"]
        name = buffer[:-1].split(b"\0", 1)[0].decode("utf-8", "replace")
        if self.expected.runstates and name not in self.expected.runstates:
            raise LoadError(
                EINVAL,
                reports=(f"invalid parameter value: {name}",),
                modern="post load hook failed for: globalstate, version_id: 1, "
                "minimum_version: 1, ret: -22",
            )
        told = values.get("has_vm_was_suspended", b"\0")[0]
        suspended = bool(values["vm_was_suspended"][0]) if told else None
        return events.GlobalState(name, suspended)

    def _device(self, section_id: int, section: _Section, size: int) -> None:
        self._found.append((section.name, section.instance_id, size))
        self._out.append(
            events.DeviceState(section_id, section.name, section.instance_id, size)
        )

    def _tail(self, pull: ByteReader, section_id: int, section: _Section) -> Parser:
        """The rest of a stream without footers: held until it ends in its description."""
        while (at := devices.find_description(pull)) is None:
            if pull.ended or pull.available > TAIL_LIMIT:
                raise LoadError(EIO)
            yield
        described = vmdesc.sizes(vmdesc.parse(bytes(pull.buffer[at + 6 :])) or {})
        place = [(name, instance) for name, instance, _ in described]
        key = (section.name, section.instance_id)
        if key in place:
            for name, instance, size in described[place.index(key) :]:
                self._device(section_id, _Section(name, instance, 0), size)
                section_id = 0
        self._split_global_state(bytes(pull.buffer[pull.position : at]))
        pull.position = at + 1

    def _split_global_state(self, tail: bytes) -> None:
        """The run state out of a tail; it is the last section of every machine."""
        fixed = layout.global_state(self.traits)
        at = tail.rfind(b"\x0bglobalstate")
        if at >= 0 and len(tail) >= at + 20 + fixed.size:
            values, at = {}, at + 20
            for field in fixed.fields:
                values[field.name], at = tail[at : at + field.size], at + field.size
            self._out.append(self._global_state(values))
