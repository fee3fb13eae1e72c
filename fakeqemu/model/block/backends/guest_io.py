"""What a guest reads from and writes to its disks, and what becomes of a request that failed.

Which action an error has is said by the device's `rerror` and `werror`, or those of its -drive:
the guest sees the error (report), never hears of it (ignore), or stops until somebody has mended
what was wrong and says `cont` (stop; enospc: for want of room only). See block/block-backend.c:
blk_get_error_action() and blk_error_action(), hw/block/virtio-blk.c: virtio_blk_handle_rw_error(),
hw/scsi/scsi-disk.c: scsi_handle_rw_error(), hw/ide/core.c: ide_handle_rw_error().
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.backends.device_profiles import BlockDeviceProfile
    from fakeqemu.model.events import Events
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.runstate import RunState

#: bytes that a guest writes to a disk when nobody says what
FILLER = b"\x5a"
_CHUNK = 1 << 20
_SHORT = {"read": "rd", "write": "wr"}


@dataclass(slots=True)
class GuestRequest:
    """One request of a guest."""

    backend: Backend
    #: read or write
    operation: str
    offset: int
    size: int
    #: what to write; None: anything
    data: bytes | None = None
    #: bytes that are over and done with
    done: int = 0

    def piece(self) -> int:
        """Do the next piece of it; gives its size. Raises BlockIoError."""
        if self.backend.node is None:
            raise BlockIoError("No medium found")
        count = min(self.size - self.done, _CHUNK)
        at = self.offset + self.done
        if self.operation == "read":
            self.backend.read(at, count)
        elif self.data is None:
            self.backend.write(at, FILLER * count)
        else:
            count = len(self.data)
            self.backend.write(at, self.data)
        return count

    @property
    def left(self) -> int:
        """Bytes of the piece that is next."""
        return min(self.size - self.done, _CHUNK) if self.data is None else len(self.data)


class GuestIo:
    """The requests of one machine's guest."""

    def __init__(  # noqa: PLR0917
        self, events: Events, runstate: RunState, lifecycle: Lifecycle,
        members: Collection[str], later: Callable[[int, Callable[[], None]], object],
        now: Callable[[], int], report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._events, self._runstate, self._lifecycle = events, runstate, lifecycle
        #: members that BLOCK_IO_ERROR has in this version
        self._members = members
        self._later, self._now, self._report = later, now, report
        #: a tester's: raises BlockIoError for a request that is to fail
        self.fault: Callable[[GuestRequest], None] | None = None
        #: what failed and is tried again when the guest goes on, oldest first
        self._again: list[GuestRequest] = []
        lifecycle.on_state_change.append(self._state_changed)
        lifecycle.on_reset.append(lambda _cause: self._again.clear())

    def perform(self, request: GuestRequest) -> None:
        """Do what the guest wants.

        Raises BlockIoError where the guest is to see the error.
        """
        backend = request.backend
        node = backend.node
        if node is None and backend.kind.removable:
            # devices look whether there is a medium: no error of the host's, and no event
            raise BlockIoError("No medium found")
        if node is not None and request.offset + request.size > base.length(node):
            # devices look at the range themselves: no error of the host's, and no event
            backend.traffic.count_invalid(_SHORT[request.operation])
            raise BlockIoError
        while request.done < request.size:
            try:
                if self.fault is not None:
                    self.fault(request)
                request.done += request.piece()
            except BlockIoError as error:
                if not backend.kind.io_status:
                    self._failed(request)
                    if backend.kind.reports_failure:
                        self._report(f"aio failed: {error.desc}")
                    raise
                action = error_action(backend, request.operation, error)
                self._act(request, action, error)
                if action == "report":
                    raise
                if action == "stop":
                    return
                request.done += request.left

    def _act(self, request: GuestRequest, action: str, error: BlockIoError) -> None:
        backend = request.backend
        if action == "report" or backend.kind.counts_every_failure:
            self._failed(request)
        elif action == "ignore":
            kind = _SHORT[request.operation]
            backend.traffic.count(kind, request.left, self._now())
        data: dict[str, Any] = {
            "device": backend.name,
            "operation": request.operation,
            "action": action,
            "reason": error.desc,
        }
        if backend.device is not None:
            data["qom-path"] = backend.device.path
        if backend.node is not None:
            data["node-name"] = backend.node.name
        if io_status_enabled(backend):
            data["nospace"] = error.nospace
        if action == "stop":
            self._again.append(request)
            if backend.io_status == "ok":
                backend.io_status = "nospace" if error.nospace else "failed"
        self._events.emit(
            "BLOCK_IO_ERROR", {k: v for k, v in data.items() if k in self._members}
        )
        if action == "stop":
            self._lifecycle.vm_stop("io-error")

    def _failed(self, request: GuestRequest) -> None:
        request.backend.traffic.count_failed(_SHORT[request.operation])

    def _state_changed(self, running: bool, _state: str) -> None:
        if running and self._again:
            self._later(0, self._try_again)

    def _try_again(self) -> None:
        if not self._runstate.running:
            return
        waiting, self._again = self._again, []
        for request in waiting:
            if request.backend.device is not None:
                self._retry(request)

    def _retry(self, request: GuestRequest) -> None:
        with suppress(BlockIoError):  # which the guest sees
            self.perform(request)


def error_action(backend: Backend, operation: str, error: BlockIoError) -> str:
    """What an error of a `read` or `write` leads to: ignore, report or stop."""
    wanted = backend.on_error[operation]
    if wanted == "enospc":
        return "stop" if error.nospace else "report"
    return wanted


def io_status_enabled(backend: Backend) -> bool:
    """Whether an error can stop the guest. See block/block-backend.c: blk_iostatus_is_enabled()."""
    on_error = backend.on_error
    stops = on_error["write"] in ("enospc", "stop") or on_error["read"] == "stop"
    return backend.kind.io_status and stops


def check_actions(backend: Backend, kind: BlockDeviceProfile) -> None:
    """Whether the device can follow what its -drive says. Raises QapiError.

    See hw/block/fdc.c: floppy_drive_realize(), hw/scsi/scsi-generic.c: scsi_generic_realize().
    """
    if kind.refuses_actions:
        for operation, usual in (("write", "enospc"), ("read", "report")):
            if backend.on_error[operation] not in (usual, "report"):
                option = f"{operation[0]}error"
                raise QapiError(f"{kind.refuses_actions} doesn't support drive option {option}")


def take_options(backend: Backend, values: Mapping[str, object]) -> None:
    """Follow a device's own `rerror`, `werror` and `write-cache` from now on, unless auto.

    See hw/block/block.c: blkconf_apply_backend_options().
    """
    for operation, name in (("read", "rerror"), ("write", "werror")):
        action = values.get(name, "auto")
        if isinstance(action, str) and action != "auto":
            backend.on_error[operation] = action
    write_cache = values.get("write-cache", "auto")
    if write_cache != "auto":
        backend.writeback = write_cache in ("on", True)
    backend.io_status = "ok"
