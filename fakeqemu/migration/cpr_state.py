"""CPR state as bytes: the saved descriptors, on a cpr channel or in a file that outlives exec.

    magic, version, { 1, length, name, id, descriptor } ..., 0, subsections

On a channel each descriptor travels with a byte of its own; in a file it is its number. The
reader goes by what came so far, and is done only when it has seen the byte after the list, or
the end: there may be a subsection.

See migration/cpr.c: cpr_state_save(), cpr_state_load() and vmstate_cpr_fd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fakeqemu.model.fds.cpr_fds import SavedFd
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.traits import Traits

_MAGIC, _VERSION = 0x51435052, 1
_MORE, _END, _SUBSECTION = 1, 0, 5
_SERVICE_BYTE = b" "
_NAME = "CprState"
#: an empty list of devices, with its version
_VFIO = "CprState/vfio devices"
_VFIO_BYTES = bytes([_SUBSECTION, len(_VFIO)]) + _VFIO.encode() + b"\0\0\0\1" + b"\0"

#: bytes, and the descriptor that is passed with the last of them
Piece = tuple[bytes, int | None]

Broken = Callable[[], QapiError]


def encode(saved: Iterable[SavedFd], traits: Traits, *, numbers: bool) -> list[Piece]:
    """The state in pieces to be sent one after the other; with `numbers` without descriptors."""
    pieces: list[Piece] = []
    data = _be32(_MAGIC) + _be32(_VERSION)
    for each in saved:
        name = c_bytes(each.name) + b"\0"
        data += bytes([_MORE]) + _be32(len(name)) + name + _be32(each.id)
        if numbers:
            data += _be32(each.fd)
        else:
            pieces.append((data + _SERVICE_BYTE, each.fd))
            data = b""
    data += bytes([_END])
    if traits.cpr_state_has_vfio:
        data += _VFIO_BYTES
    pieces.append((data, None))
    return pieces


#: bytes of a state, which is read from its start with each piece that comes
_MOST_BYTES = 1 << 20


class CprReader:
    """Incremental parser of a CPR state."""

    def __init__(self, traits: Traits, *, numbers: bool) -> None:
        self._traits = traits
        self._numbers = numbers
        self._data = bytearray()
        self._fds: list[int] = []
        #: lines for standard error
        self.complaints: list[str] = []

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[SavedFd] | None:
        """Parse further bytes; the saved descriptors, newest first, once complete.

        Raises QapiError.
        """
        self._data += data
        self._fds += fds
        if len(self._data) > _MOST_BYTES:
            raise NotModelledError(f"CPR states of more than {_MOST_BYTES} bytes")
        return self._read(ended=False)

    def feed_eof(self) -> list[SavedFd]:
        """The channel was closed. Raises QapiError."""
        saved = self._read(ended=True)
        assert saved is not None
        return saved

    def _read(self, *, ended: bool) -> list[SavedFd] | None:
        pull = _Pull(bytes(self._data), ended=ended)
        self.complaints = []
        try:
            return self._state(pull)
        except _MissingError:
            return None

    def _state(self, pull: _Pull) -> list[SavedFd]:
        magic = pull.be32()
        if magic != _MAGIC:
            raise QapiError(f"Not a migration stream (bad magic {magic:x})")
        version = pull.be32()
        if version != _VERSION:
            signed = version - (1 << 32) if version >> 31 else version
            raise QapiError(f"Unsupported migration stream version {signed}")
        fds = list(self._fds)
        saved: list[SavedFd] = []
        while pull.byte(self._list_broken):
            saved.append(self._entry(pull, fds))
        self._subsections(pull)
        return saved

    def _entry(self, pull: _Pull, fds: list[int]) -> SavedFd:
        broken = self._entry_broken
        length = pull.be32(broken("namelen"))
        name = pull.take(length, broken("name"))
        id = pull.be32(broken("id"))
        if self._numbers:
            number = pull.be32(broken("fd"))
            fd = number - (1 << 32) if number >> 31 else number
        elif fds:
            pull.byte(broken("fd"))
            fd = fds.pop(0)
        else:
            fd = -1
            if self._traits.cpr_service_byte_always:
                pull.byte(broken("fd"))
                self.complaints.append("cpr-in no FD come with service byte")
        return SavedFd(name.rstrip(b"\0").decode(errors="replace"), id, fd)

    def _subsections(self, pull: _Pull) -> None:
        while pull.peek() == _SUBSECTION:
            pull.skip(1)
            name = pull.take(pull.byte(self._list_broken), self._list_broken).decode("latin-1")
            if not (self._traits.cpr_state_has_vfio and name == _VFIO):
                raise QapiError(self._traits.cpr_unknown_subsection.format(name, _NAME))
            pull.be32(self._list_broken)
            if pull.byte(self._list_broken):
                raise QapiError("fakeqemu does not model 'vfio devices handed over by CPR'")

    def _list_broken(self) -> QapiError:
        if not self._traits.load_error_has_cause:
            self.complaints.append("Failed to load CprState:fds")
            return QapiError("vmstate_load_state error -5")
        return QapiError("Failed to load CprState state: stream error: -5")

    def _entry_broken(self, field: str) -> Broken:
        def error() -> QapiError:
            if self._traits.load_error_has_cause:
                return QapiError("Failed to load cpr fd state: stream error: -5")
            self.complaints.append(f"Failed to load cpr fd:{field}")
            self.complaints.append("fds: failed to load cpr fd (-5)")
            return self._list_broken()

        return error


class _MissingError(Exception):
    """The state is incomplete: more bytes are needed."""


class _Pull:
    """Reads values from the front of a buffer; past the end zeros, or _MissingError."""

    def __init__(self, data: bytes, *, ended: bool) -> None:
        self._data = data
        self._at = 0
        self._ended = ended

    def take(self, size: int, broken: Broken | None = None) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) < size:
            if not self._ended:
                raise _MissingError
            if broken is not None:
                raise broken()
            piece = piece.ljust(size, b"\0")
        self._at += size
        return piece

    def byte(self, broken: Broken | None = None) -> int:
        return self.take(1, broken)[0]

    def be32(self, broken: Broken | None = None) -> int:
        return int.from_bytes(self.take(4, broken), "big")

    def peek(self) -> int | None:
        """The next byte; None at the end."""
        if self._at < len(self._data):
            return self._data[self._at]
        if not self._ended:
            raise _MissingError
        return None

    def skip(self, size: int) -> None:
        self._at += size


def _be32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "big")
