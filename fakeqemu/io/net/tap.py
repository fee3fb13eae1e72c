"""TAP devices of the host, and the scripts that set them up.

See net/tap-linux.c: tap_open(); net/tap.c: launch_script().
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct

from fakeqemu.qapi.errors import QapiError

_DEVICE = "/dev/net/tun"
# linux/if_tun.h, for all architectures with QEMU's usual ioctl numbers
_TUNGETFEATURES, _TUNSETIFF = 0x800454CF, 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_ONE_QUEUE, _IFF_VNET_HDR = 0x0002, 0x1000, 0x2000, 0x4000
#: struct ifreq: a name, then flags in a union
_IFREQ = "16sH22x"
_NAME_SIZE = 16


class Tap:
    """An open device, as model/net/sockets/host_sockets.py wants it."""

    def __init__(self, ifname: str, *, vnet_hdr: bool) -> None:
        try:
            self.fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise QapiError(f"could not open {_DEVICE}: {error.strerror}") from None
        try:
            self.ifname = self._configure(ifname, vnet_hdr=vnet_hdr)
        except QapiError:
            self.close()
            raise

    def _configure(self, ifname: str, *, vnet_hdr: bool) -> str:
        given = os.fsencode(ifname).partition(b"\0")[0][: _NAME_SIZE - 1]
        try:
            known = fcntl.ioctl(self.fd, _TUNGETFEATURES, bytes(4))
            features = int.from_bytes(known, "little")
            flags = _IFF_TAP | _IFF_NO_PI | features & _IFF_ONE_QUEUE
            if vnet_hdr:
                flags |= features & _IFF_VNET_HDR
            request = struct.pack(_IFREQ, given or b"tap%d", flags)
            name = fcntl.ioctl(self.fd, _TUNSETIFF, request)[:_NAME_SIZE]
        except OSError as error:
            shown = f" ({os.fsdecode(given)})" if given else ""
            raise QapiError(f"could not configure {_DEVICE}{shown}: {error.strerror}") from None
        os.set_blocking(self.fd, False)
        return os.fsdecode(name.partition(b"\0")[0])

    def run_script(self, script: str) -> None:
        """Run a program on the interface and wait for it. Raises QapiError if it fails."""
        path = script.partition("\0")[0]
        passed: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, self.fd, self.fd)]
        passed += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd > 2]
        try:
            child = os.posix_spawn(path, [path, self.ifname], os.environ, file_actions=passed)
            _, status = os.waitpid(child, 0)
        except OSError:
            # the child of a fork() finds out that there is nothing to run, and exits
            status = 1 << 8
        if status:
            raise QapiError(f"network script {path} failed with status {status}")

    def close(self) -> None:
        """The interface goes, unless it is a persistent one."""
        os.close(self.fd)


def _inheritable() -> list[int]:
    with contextlib.suppress(OSError):
        return [fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_inheritable(fd)]  # noqa: PTH208
    return []


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the listing's own
        return False
