"""The front end of vhost-user: what is asked of a back end before a guest uses the device.

Messages have a header of three 32-bit numbers in the host's order, request, flags and size. A back
end that was given memory or running queues would need a guest, so that SET_MEM_TABLE and what
follows it are never sent.

See hw/virtio/vhost-user.c: vhost_user_backend_init(), vhost_user_read_header(),
vhost_setup_backend_channel() and vhost_user_set_vring_enable(); hw/virtio/vhost.c: vhost_dev_init()
and vhost_virtqueue_init().
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.chardev.blocking import BlockingFrontend
    from fakeqemu.model.host import Host, Stream
    from fakeqemu.traits import Traits


class VhostUserRequest(IntEnum):
    """VHOST_USER_*."""

    GET_FEATURES = 1
    SET_OWNER = 3
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36


class ProtocolFeature(IntEnum):
    """VHOST_USER_PROTOCOL_F_*: numbers of bits."""

    MQ = 0
    LOG_SHMFD = 1
    REPLY_ACK = 3
    BACKEND_REQ = 5
    CONFIG = 9
    RESET_DEVICE = 13
    CONFIGURE_MEM_SLOTS = 15


_HEADER = struct.Struct("=III")
_VERSION, _REPLY, _NEED_REPLY = 1, 4, 8
#: VHOST_USER_F_PROTOCOL_FEATURES, VHOST_F_LOG_ALL, VIRTIO_F_IOMMU_PLATFORM
_F_PROTOCOL, _F_LOG_ALL, _F_IOMMU = 30, 26, 33
_CONFIG_WARNING = (
    "vhost-user backend supports VHOST_USER_PROTOCOL_F_CONFIG but QEMU does not."
)


class VhostUserError(Exception):
    """What QEMU reports of a back end that fails, a line for each argument."""


class VhostUser:
    """One back end, as far as it is asked."""

    def __init__(
        self,
        frontend: BlockingFrontend,
        host: Host,
        traits: Traits,
        *,
        warn: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        """`warn`: takes what is worth a warning; `report`: errors that end nothing."""
        self._frontend = frontend
        self._host = host
        self._traits = traits
        self._warn = warn
        self._report = report
        #: whether it has protocol features at all, and those agreed on
        self._extended = False
        self._protocol = 0
        self._requests: Stream | None = None
        #: why its machine cannot migrate; empty if it can
        self.blocker = ""

    def has(self, feature: ProtocolFeature) -> bool:
        """Whether both ends have agreed on that."""
        return bool(self._protocol >> feature & 1)

    def start(self, queues: int) -> None:
        """vhost_dev_init() of so many queues. Raises VhostUserError."""
        try:
            self._init_backend()
        except _Failed as failed:
            text = "vhost_backend_init failed: Protocol error"
            raise VhostUserError(*failed.args, text) from None
        try:
            self._send(VhostUserRequest.SET_OWNER)
            features = self._get(VhostUserRequest.GET_FEATURES)
            for queue in range(queues):
                for request in (VhostUserRequest.SET_VRING_CALL, VhostUserRequest.SET_VRING_ERR):
                    self._give_event(request, queue)
        except _Failed as failed:
            text = "Failed to initialize virtqueue 0: Protocol error"
            raise VhostUserError(*failed.args, text) from None
        if not self.blocker and not features >> _F_LOG_ALL & 1:
            self.blocker = "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature."

    def reset(self, queues: int) -> None:
        """The device is reset; so many of its queues can be used then.

        What a back end that has gone says of that is nothing: its going is noticed anyway.
        """
        try:
            if self._traits.vhost_user_resets_device and self.has(ProtocolFeature.RESET_DEVICE):
                self._send(VhostUserRequest.RESET_DEVICE)
            acked = self._traits.vhost_user_enable_acked
            for queue in range(queues if self._extended else 0):
                payload = struct.pack("=II", queue, 1)
                self._send(VhostUserRequest.SET_VRING_ENABLE, payload, ack=acked)
                if acked and not self.has(ProtocolFeature.REPLY_ACK):
                    # the answer to anything shows that it has come so far
                    self._get(VhostUserRequest.GET_FEATURES)
        except _Failed as failed:
            for line in failed.args:
                self._report(line)

    def close(self) -> None:
        """Let it go."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    # -- inside --------------------------------------------------------------------------------

    def _init_backend(self) -> None:
        features = self._get(VhostUserRequest.GET_FEATURES)
        self._protocol = 0
        self._extended = bool(features >> _F_PROTOCOL & 1)
        if self._extended:
            self._agree()
            if features >> _F_IOMMU & 1 and not (
                self.has(ProtocolFeature.BACKEND_REQ) and self.has(ProtocolFeature.REPLY_ACK)
            ):
                raise VhostUserError(
                    "IOMMU support requires reply-ack and backend-req protocol features."
                )
            if self.has(ProtocolFeature.CONFIGURE_MEM_SLOTS):
                self._get(VhostUserRequest.GET_MAX_MEM_SLOTS)
        lacks = not self.has(ProtocolFeature.LOG_SHMFD)
        feature = "VHOST_USER_PROTOCOL_F_LOG_SHMFD"
        self.blocker = (
            f"Migration disabled: vhost-user backend lacks {feature} feature." if lacks else ""
        )
        if self.has(ProtocolFeature.BACKEND_REQ):
            self._give_request_channel()

    def _agree(self) -> None:
        offered = self._get(VhostUserRequest.GET_PROTOCOL_FEATURES)
        agreed = offered & self._traits.vhost_user_protocol_features
        if agreed >> ProtocolFeature.CONFIG & 1:
            self._warn(_CONFIG_WARNING)
            agreed &= ~(1 << ProtocolFeature.CONFIG)
        self._send(VhostUserRequest.SET_PROTOCOL_FEATURES, struct.pack("=Q", agreed))
        self._protocol = agreed
        if self.has(ProtocolFeature.MQ):
            self._get(VhostUserRequest.GET_QUEUE_NUM)

    def _give_request_channel(self) -> None:
        stream, fd = self._host.socket_pair()
        try:
            self._send(VhostUserRequest.SET_BACKEND_REQ_FD, fds=[fd], ack=True)
        except _Failed:
            stream.close()
            raise
        finally:
            self._host.close_fd(fd)
        self._requests = stream
        stream.on_close = self._request_channel_ended
        stream.on_data = lambda _data: None  # of a guest's memory and registers, all of them

    def _request_channel_ended(self, _error: str | None) -> None:
        self._requests = None
        self._report("Unexpected end-of-file before all data were read")

    def _give_event(self, request: VhostUserRequest, queue: int) -> None:
        fd = self._host.create_event()
        try:
            payload = struct.pack("=Q", queue)
            ack = self._traits.vhost_user_vring_fds_acked
            self._send(request, payload, fds=[fd], ack=ack)
        finally:
            self._host.close_fd(fd)

    def _get(self, request: VhostUserRequest) -> int:
        """A number that it is asked for."""
        self._send(request)
        answer = self._read(request)
        if len(answer) != 8:
            raise _Failed("Received bad msg size.")
        (number,) = struct.unpack("=Q", answer)
        return int(number)

    def _send(
        self,
        request: VhostUserRequest,
        payload: bytes = b"",
        *,
        fds: Sequence[int] = (),
        ack: bool = False,
    ) -> None:
        """Send; with `ack`, and where it can give one, wait for its consent."""
        ack = ack and self.has(ProtocolFeature.REPLY_ACK)
        flags = _VERSION | (_NEED_REPLY if ack else 0)
        data = _HEADER.pack(request, flags, len(payload)) + payload
        try:
            self._frontend.write_all(data, fds)
        except OSError:
            raise _Failed(f"Failed to write msg. Wrote -1 instead of {len(data)}.") from None
        if ack and any(self._read(request)):
            raise _Failed

    def _read(self, request: VhostUserRequest) -> bytes:
        head = self._take(_HEADER.size)
        if len(head) < _HEADER.size:
            raise _Failed(
                f"Failed to read msg header. Read {len(head)} instead of {_HEADER.size}."
                f" Original request {int(request)}."
            )
        answered, flags, size = _HEADER.unpack(head)
        if flags != _REPLY | _VERSION:
            raise _Failed(
                f"Failed to read msg header. Flags 0x{flags:x} instead of 0x{_REPLY | _VERSION:x}."
            )
        most = self._traits.vhost_user_payload
        if size > most:
            raise _Failed(f"Failed to read msg header. Size {size} exceeds the maximum {most}.")
        payload = self._take(size)
        if len(payload) < size:
            raise _Failed(f"Failed to read msg payload. Read {len(payload)} instead of {size}.")
        if answered != request:
            raise _Failed(
                f"Received unexpected msg type. Expected {int(request)} received {answered}"
            )
        return payload

    def _take(self, size: int) -> bytes:
        try:
            return self._frontend.read_all(size) if size else b""
        except OSError:
            return b""


class _Failed(Exception):  # noqa: N818
    """A message could not be sent, or its answer not be read."""
