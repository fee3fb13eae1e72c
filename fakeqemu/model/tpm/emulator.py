"""A TPM emulator (swtpm) as the backend of a TPM device.

Control messages go over a character device; commands of the guest would go over a socket that the
emulator gets by SET_DATAFD. The only command sent there is the one that shows which version of the
specification the emulator follows: no guest runs here that would send others.

See backends/tpm/tpm_emulator.c: tpm_emulator_handle_device_opts(),
tpm_emulator_startup_tpm_resume(), tpm_emulator_set_buffer_size() and tpm_emulator_shutdown();
backends/tpm/tpm_util.c: tpm_util_test_tpmdev().
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.migration_stream.vmstate.tpm_emulator import BLOB_TYPES, TpmBlob
from fakeqemu.model.chardev.blocking import BlockingFrontend
from fakeqemu.model.tpm.control import (
    DECRYPTED,
    DELETE_VOLATILE,
    MIGRATION,
    REQUIRED,
    Cap,
    ControlChannel,
    ControlCommand,
    words,
)
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.host import Host, Stream
    from fakeqemu.traits import Traits

#: seconds in which a TPM answers the test command
_TEST_PATIENCE = 1.0
#: bytes of a buffer whose size could not be asked for
_USUAL_BUFFER = 4096
#: version, tag and ordinal of a command (TPM2_CC_ReadClock, TPM_ORD_GetTicks), tag of its answer
_TESTS = (("2", 0x8001, 0x181, 0x8001), ("1.2", 0xC1, 0xF1, 0xC4))
#: a result of TPM 1.2 with which there is a blob all the same
_NON_FATAL = 0x800
_HEADER = struct.Struct(">HII")
#: times 10 ms for which another emulator is given time to let go of the storage
_LOCK_RETRIES = 300


class TpmError(Exception):
    """What QEMU reports of an emulator that fails, without the option that it blames."""


class TpmEmulator:
    """One emulator, attached to a character device."""

    def __init__(self, id: str, host: Host, traits: Traits) -> None:
        self.id = id
        self.chardev = ""
        #: "1.2" or "2"
        self.version = ""
        self._host = host
        self._traits = traits
        self._frontend = BlockingFrontend(host.close_fd)
        self.control = ControlChannel(self._frontend, result_first=traits.tpm_result_read_first)
        self._data: Stream | None = None
        self._caps = Cap(0)

    @property
    def options(self) -> dict[str, Any]:
        """TpmTypeOptions."""
        return {"type": "emulator", "data": {"chardev": self.chardev}}

    @property
    def can_migrate(self) -> bool:
        """Whether its state can be read and written."""
        return self._caps & MIGRATION == MIGRATION

    # -- attaching and leaving -----------------------------------------------------------------

    def attach(self, chardev: Chardev) -> None:
        """Take the character device. Raises QapiError if somebody has it."""
        self._frontend.attach(chardev)
        self.chardev = chardev.id

    def prepare(self) -> None:
        """Give it the data channel, and find out what it is. Raises TpmError."""
        self._give_data_channel()
        self._test()
        try:
            _, caps = self.control.ask(ControlCommand.GET_CAPABILITY, answer=1)
        except OSError as error:
            raise self._failed("probing failed", error, " : ") from None
        self._caps = Cap(caps)
        needed = REQUIRED[self.version]
        if self._caps & needed != needed:
            raise TpmError(
                "tpm-emulator: TPM does not implement minimum set of required capabilities for TPM "
                f"{self.version} (0x{int(needed):x})"
            )

    def shutdown(self) -> None:
        """Let it end. Raises TpmError."""
        result = self._ask(ControlCommand.SHUTDOWN, "Could not cleanly shutdown the TPM")
        if result:
            raise TpmError(f"tpm-emulator: TPM result for shutdown: {words(result)}")

    def close(self) -> None:
        """Leave it alone."""
        if self._data is not None:
            self._data.close()
            self._data = None
        self._frontend.detach()

    def _give_data_channel(self) -> None:
        stream, fd = self._host.socket_pair()
        try:
            (result,) = self.control.ask(ControlCommand.SET_DATAFD, fds=[fd])
            if result:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        except OSError as error:
            stream.close()
            raise self._failed("Failed to send CMD_SET_DATAFD", error) from None
        finally:
            self._host.close_fd(fd)
        self._data = stream

    def _test(self) -> None:
        stream = self._data
        assert stream is not None
        for version, tag, ordinal, expected in _TESTS:
            if self._request(stream, tag, ordinal) == expected:
                self.version = version
                stream.on_data = None
                return
        number = errno.EPIPE if getattr(stream, "fd", 0) < 0 else errno.EOPNOTSUPP
        why = f" Error: {os.strerror(number)}" if self._traits.tpm_errors_have_errno else ""
        raise TpmError(f"'{self.chardev}' is not emulating TPM device.{why}")

    @staticmethod
    def _request(stream: Stream, tag: int, ordinal: int) -> int | None:
        """The tag of the answer to a command without arguments; None if that is no answer."""
        came: list[bytes] = []
        stream.on_data = came.append
        stream.write(_HEADER.pack(tag, _HEADER.size, ordinal))
        stream.wait(_TEST_PATIENCE, lambda: bool(came))
        if not came or len(came[0]) < _HEADER.size:
            return None
        found: tuple[int, int, int] = _HEADER.unpack(came[0][: _HEADER.size])
        return found[0] if found[1] == len(came[0]) else None

    # -- what a device has it do ---------------------------------------------------------------

    def startup(
        self, largest_buffer: int, *, incoming: bool, report: Callable[[str], None]
    ) -> None:
        """The device is reset. Raises TpmError.

        `largest_buffer`: bytes the device has for a command. `incoming`: state is to come, with
        which the TPM starts. `report`: takes what does not matter.
        """
        size = _USUAL_BUFFER
        try:
            size = self._set_buffer_size(0)
        except TpmError as error:
            report(str(error))
        self._set_buffer_size(min(size, largest_buffer))
        if not incoming:
            self._init(0)

    def _init(self, flags: int) -> None:
        result = self._ask(ControlCommand.INIT, "could not send INIT", flags)
        if result:
            raise TpmError(f"tpm-emulator: TPM result for CMD_INIT: {words(result)}")

    def _stop(self) -> None:
        result = self._ask(ControlCommand.STOP, "Could not stop TPM")
        if result:
            raise TpmError(f"tpm-emulator: TPM result for CMD_STOP: {words(result)}")

    def save(self) -> dict[int, TpmBlob]:
        """Its state, by PTM_BLOB_TYPE_*. Raises TpmError.

        See tpm_emulator_get_state_blob().
        """
        return {kind: self._get_blob(kind) for kind in BLOB_TYPES}

    def _get_blob(self, kind: int) -> TpmBlob:
        ask = self.control.ask
        try:
            result, flags, total, length = ask(
                ControlCommand.GET_STATEBLOB, DECRYPTED, kind, 0, answer=3, always=True
            )
        except OSError as error:
            raise self._failed(f"could not get state blob type {kind}", error, " : ") from None
        if result and not result & _NON_FATAL:
            raise TpmError(
                f"tpm-emulator: Getting the stateblob (type {kind}) failed with a TPM error "
                f"{words(result)}"
            )
        if total != length:
            raise TpmError(
                f"tpm-emulator: Expecting to read {total} bytes but would get {length}"
            )
        try:
            data = self._frontend.read_all(total) if total else b""
        except OSError:
            data = b""
        if len(data) != total:
            raise TpmError(
                f"tpm-emulator: Could not read stateblob (type {kind}); expected {total} bytes, "
                f"got {len(data)}"
            )
        return TpmBlob(flags, data)

    def load(self, blobs: Mapping[int, TpmBlob]) -> None:
        """Give it a state, and start it with that. Raises TpmError.

        See tpm_emulator_set_state_blobs() and tpm_emulator_post_load().
        """
        self._stop()
        for kind, blob in blobs.items():
            if blob.data:
                self._set_blob(kind, blob)
        self._init(DELETE_VOLATILE)

    def _set_blob(self, kind: int, blob: TpmBlob) -> None:
        size = len(blob.data)
        try:
            self.control.send(ControlCommand.SET_STATEBLOB, blob.flags, kind, size)
            self._frontend.write_all(blob.data)
            (result,) = self.control.read()
        except OSError as error:
            raise self._failed(f"could not set state blob type {kind}", error, " : ") from None
        if result:
            raise TpmError(
                f"tpm-emulator: Setting the stateblob (type {kind}) failed with a TPM error "
                f"{words(result)}"
            )

    def lock_storage(self) -> None:
        """Take the storage that was let go for a migration. Raises TpmError."""
        if not self._caps & Cap.LOCK_STORAGE:
            return
        what = "Could not lock storage within 3 seconds"
        result = self._ask(ControlCommand.LOCK_STORAGE, what, _LOCK_RETRIES)
        if result:
            raise TpmError(f"tpm-emulator: TPM result for CMD_LOCK_STORAGE: {words(result)}")

    def _set_buffer_size(self, wanted: int) -> int:
        """The bytes that it takes from now on; 0 only asks."""
        self._stop()
        try:
            result, actual, _, _ = self.control.ask(ControlCommand.SET_BUFFERSIZE, wanted, answer=3)
        except OSError as error:
            raise self._failed("Could not set buffer size", error) from None
        if result:
            raise TpmError(f"tpm-emulator: TPM result for set buffer size : {words(result)}")
        return actual

    def _ask(self, command: ControlCommand, failure: str, *request: int) -> int:
        try:
            return self.control.ask(command, *request)[0]
        except OSError as error:
            raise self._failed(failure, error) from None

    def _failed(self, text: str, error: OSError, colon: str = ": ") -> TpmError:
        why = f"{colon}{error.strerror}" if self._traits.tpm_errors_have_errno else ""
        return TpmError(f"tpm-emulator: {text}{why}")


def attach(emulator: TpmEmulator, chardev: Chardev) -> None:
    """Attach `emulator`. Raises TpmError."""
    try:
        emulator.attach(chardev)
    except QapiError as error:
        head = f"tpm-emulator: No valid chardev found at '{chardev.id}':"
        raise TpmError(head + error.desc) from None
