"""The configuration section: which machine the stream is of, and what both must agree on.

See migration/savevm.c: vmstate_configuration, configuration_post_load() and
configuration_pre_load().
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Generator

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.byte_reader import ByteReader
from fakeqemu.formats.migration_stream.constants import (
    CAPABILITY_LIMIT,
    MACHINE_NAME_LIMIT,
    SUBSECTION,
    TARGET_PAGE_BITS,
)
from fakeqemu.formats.migration_stream.errors import EINVAL, EIO, ENOENT, LoadError
from fakeqemu.formats.migration_stream.load_context import LoadContext
from fakeqemu.traits import Traits

_NAME = "configuration"
_HOOK = "post load hook failed for: configuration, version_id: 1, minimum_version: 0: "


@dataclass(slots=True)
class _Received:
    machine: bytes = b""
    page_bits: int = TARGET_PAGE_BITS
    capabilities: list[str] = field(default_factory=list)
    uuid: uuids.UUID | None = None


def truncated(section: str, name: str) -> LoadError:
    """A field of a section could not be read to its end."""
    return LoadError(
        EIO,
        f"Failed to load {section}:{name}",
        modern=f"Failed to load {section} state: stream error: -{EIO}",
        modern_errno=EINVAL,
    )


def read(
    pull: ByteReader, expected: LoadContext, traits: Traits
) -> Generator[None, None, list[events.Event]]:
    """Read and compare the section after its mark. Raises LoadError."""
    found: list[events.Event] = []
    received = _Received()
    length = yield from pull.number(4)
    if pull.error:
        raise truncated(_NAME, "len")
    if length > MACHINE_NAME_LIMIT:
        raise truncated(_NAME, "name")
    received.machine = yield from pull.get(length)
    if pull.error:
        raise truncated(_NAME, "name")
    yield from _subsections(pull, received, expected, found)
    _compare(received, expected, traits)
    name = received.machine.decode("utf-8", "replace")
    found.insert(0, events.ConfigurationSection(name, tuple(received.capabilities), received.uuid))
    return found


def _subsections(
    pull: ByteReader, received: _Received, expected: LoadContext, found: list[events.Event]
) -> Generator[None, None, None]:
    readers = {
        "configuration/target-page-bits": _page_bits,
        "configuration/capabilities": _capabilities,
        "configuration/uuid": _uuid,
    }
    while (yield from pull.peek(1)) == bytes([SUBSECTION]):
        start = yield from pull.peek(2)
        size = start[1] if len(start) > 1 else 0
        idstr = (yield from pull.peek(2 + size))[2:]
        if size <= len(_NAME) or not idstr.startswith(_NAME.encode()) or len(idstr) < size:
            if len(idstr) < size or len(start) < 2:
                pull.error = EIO
            return
        name = idstr.decode("utf-8", "replace")
        if name not in readers:
            modern = f"VM subsection '{name}' in '{_NAME}' does not exist"
            raise LoadError(ENOENT, modern=modern, modern_errno=EINVAL)
        yield from pull.get(2 + size)
        version = yield from pull.number(4)
        try:
            if version > 1:
                raise LoadError(
                    EINVAL,
                    f"{name}: incoming version_id {version} is too new for local version_id 1",
                )
            yield from readers[name](pull, received, expected, found)
        except LoadError as fault:
            fault.cause = f"Loading VM subsection '{name}' in '{_NAME}' failed: {fault.cause}"
            fault.modern_errno = EINVAL
            raise


def _page_bits(
    pull: ByteReader, received: _Received, expected: LoadContext, found: list[events.Event]
) -> Generator[None, None, None]:
    del expected, found
    received.page_bits = yield from pull.number(4)
    if pull.error:
        raise truncated("configuration/target-page-bits", "target_page_bits")


def _capabilities(
    pull: ByteReader, received: _Received, expected: LoadContext, found: list[events.Event]
) -> Generator[None, None, None]:
    del found
    section = "configuration/capabilities"
    count = yield from pull.number(4)
    if pull.error:
        raise truncated(section, "caps_count")
    for _ in range(min(count, CAPABILITY_LIMIT + 1)):
        name = yield from pull.counted()
        if name not in expected.capabilities or len(received.capabilities) == CAPABILITY_LIMIT:
            text = f"Received unknown capability {name}"
            fault = LoadError(EINVAL, f"Failed to load {section}:capabilities", modern=text)
            raise fault.before(text)
        received.capabilities.append(name)
        if pull.error:
            raise truncated(section, "capabilities")


def _uuid(
    pull: ByteReader, received: _Received, expected: LoadContext, found: list[events.Event]
) -> Generator[None, None, None]:
    section = "configuration/uuid"
    data = yield from pull.get(16)
    if pull.error:
        raise truncated(section, "uuid.data")
    received.uuid = uuids.UUID(bytes=data)
    if expected.uuid is None:
        found.append(
            events.Report(f"warning: UUID is received {received.uuid}, but local uuid isn't set")
        )
    elif received.uuid != expected.uuid:
        hook = f"post load hook failed for: {section}, version_id: 1, minimum_version: 1, ret: -22"
        text = f"UUID received is {received.uuid} and local is {expected.uuid}"
        raise LoadError(EINVAL, reports=(text,), modern=hook)


def _compare(received: _Received, expected: LoadContext, traits: Traits) -> None:
    local = expected.machine
    # only as much as was received is compared
    if received.machine != local.encode()[: len(received.machine)]:
        name = received.machine.decode("utf-8", "replace")
        text = f"Machine type received is '{name}' and local is '{local}'"
        raise LoadError(EINVAL, text, modern=_HOOK + text)
    if received.page_bits != TARGET_PAGE_BITS:
        text = f"Received TARGET_PAGE_BITS is {received.page_bits} but local is {TARGET_PAGE_BITS}"
        raise LoadError(EINVAL, text, modern=_HOOK + text)
    wrong = []
    for name, state in expected.capabilities.items():
        if name in traits.stream_validates and (name in received.capabilities) != state:
            mine, theirs = ("on", "off") if state else ("off", "on")
            wrong.append(f"Capability {name} is {mine}, but received capability is {theirs}")
    if wrong:
        raise LoadError(
            EINVAL, reports=tuple(wrong), modern=_HOOK + "Failed to validate capabilities"
        )
